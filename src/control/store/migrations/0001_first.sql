-- Portable types only: TEXT, BIGINT, DOUBLE PRECISION, BLOB (BYTEA on PostgreSQL).
-- Booleans are 0 or 1, times are microseconds since the Unix epoch, UTC.
-- Nothing here has a server-side default: values come from the program.

-- Revisions and the next dense numbers.
CREATE TABLE counter (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('registry', 1), ('library', 1), ('object', 0), ('bundle', 0);

CREATE TABLE partner (
    name TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL
);

-- Exactly one of prefix and origin is set. `subject` is its text: `192.0.2.0/24` or `AS64496`.
CREATE TABLE approval (
    partner TEXT NOT NULL REFERENCES partner (name),
    subject TEXT NOT NULL,
    prefix TEXT,
    origin BIGINT,
    PRIMARY KEY (subject)
);

CREATE TABLE site (
    label TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    partner TEXT NOT NULL REFERENCES partner (name),
    latitude DOUBLE PRECISION NOT NULL,
    longitude DOUBLE PRECISION NOT NULL,
    timezone TEXT NOT NULL,
    open BIGINT NOT NULL
);

CREATE TABLE cluster (
    name TEXT NOT NULL PRIMARY KEY
);

CREATE TABLE appliance (
    id TEXT NOT NULL PRIMARY KEY,
    site TEXT NOT NULL REFERENCES site (label),
    cluster TEXT NOT NULL REFERENCES cluster (name),
    profile TEXT NOT NULL,
    ipv4 TEXT,
    ipv6 TEXT,
    https_port BIGINT NOT NULL,
    capacity BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    quarantined TEXT,
    revoked BIGINT NOT NULL,
    key_fingerprint TEXT UNIQUE,
    certificate_ends BIGINT
);

-- One live token a box; the text of a token is nowhere, only its hash.
CREATE TABLE token (
    appliance TEXT NOT NULL PRIMARY KEY REFERENCES appliance (id),
    hash BLOB NOT NULL UNIQUE,
    ends BIGINT NOT NULL,
    key_fingerprint TEXT
);

CREATE TABLE object (
    number BIGINT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    length BIGINT NOT NULL
);

CREATE TABLE bundle (
    number BIGINT NOT NULL PRIMARY KEY,
    directory TEXT NOT NULL UNIQUE,
    popularity DOUBLE PRECISION NOT NULL
);

-- `name` is the last segment of the key, the bundle's directory is the rest.
CREATE TABLE content (
    bundle BIGINT NOT NULL REFERENCES bundle (number),
    name TEXT NOT NULL,
    object BIGINT NOT NULL REFERENCES object (number),
    last_modified BIGINT NOT NULL,
    PRIMARY KEY (bundle, name)
);

-- What earlier imports read of their sources.
CREATE TABLE source_file (
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    size BIGINT NOT NULL,
    tag TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (source, path)
);

CREATE TABLE published (
    appliance TEXT NOT NULL PRIMARY KEY REFERENCES appliance (id),
    epoch BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    content BLOB NOT NULL
);

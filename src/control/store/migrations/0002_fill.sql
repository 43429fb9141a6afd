-- The night: fill windows, escalation, titles, deletion grants, chunk trees.
--
-- Columns that are added to tables with rows must be nullable to be portable; the rows that exist
-- get their values here, the program writes every later one.

-- Waits are microseconds; NULL is never.
CREATE TABLE fill_cluster (
    name TEXT NOT NULL PRIMARY KEY,
    masters BIGINT NOT NULL,
    hops_allowed BIGINT NOT NULL,
    hops_wait BIGINT NOT NULL,
    network_wait BIGINT,
    origin_wait BIGINT,
    live_share BIGINT NOT NULL
);
INSERT INTO fill_cluster (name, masters, hops_allowed, hops_wait, network_wait, origin_wait, live_share)
    VALUES ('default', 1, 1, 0, 1800000000, 3600000000, 50);

ALTER TABLE cluster ADD COLUMN fill_cluster TEXT REFERENCES fill_cluster (name);
UPDATE cluster SET fill_cluster = 'default';

-- Seconds after midnight and microseconds; a rate of NULL limits nothing.
ALTER TABLE site ADD COLUMN fill_start BIGINT;
ALTER TABLE site ADD COLUMN fill_length BIGINT;
ALTER TABLE site ADD COLUMN rate_limit_bps BIGINT;
UPDATE site SET fill_start = 7200, fill_length = 43200000000;

ALTER TABLE appliance ADD COLUMN peer_port BIGINT;
UPDATE appliance SET peer_port = 7443;

-- Titles about which an operator said something.
CREATE TABLE title (
    name TEXT NOT NULL PRIMARY KEY,
    withdrawn BIGINT NOT NULL,
    urgent_until BIGINT
);

-- The last one a box; ended ones are removed when somebody grants.
CREATE TABLE deletion_grant (
    appliance TEXT NOT NULL PRIMARY KEY REFERENCES appliance (id),
    bytes BIGINT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

-- Chaining values of an object's chunks, 32 bytes each, of objects of two chunks and more. By
-- digest: an import learns trees long before its keys are bound.
CREATE TABLE object_tree (
    digest BLOB NOT NULL PRIMARY KEY,
    tree BLOB NOT NULL
);

-- `learned` grows with each import: of two files with one digest the later is nearer to the truth.
ALTER TABLE source_file ADD COLUMN learned BIGINT;
UPDATE source_file SET learned = 0;
INSERT INTO counter (name, value) VALUES ('learned', 0);
CREATE INDEX source_file_digest ON source_file (digest);

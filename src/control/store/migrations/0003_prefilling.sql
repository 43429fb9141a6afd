-- Boxes that stand where they are filled before they are shipped. A row is the state.
CREATE TABLE prefilling (
    appliance TEXT NOT NULL PRIMARY KEY REFERENCES appliance (id)
);

-- Which code of Lago's the entries of a type have, from a position of the log on: what went out under one code goes out under it
-- for ever, whatever the catalogue says later. A type's first code is that of all its entries; an empty one keeps them from Lago.
CREATE TABLE lago_codes (
    type TEXT NOT NULL,
    from_position BIGINT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (type, from_position)
);

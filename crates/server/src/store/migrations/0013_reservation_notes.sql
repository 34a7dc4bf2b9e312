-- What was reserved and what ended in one moment, packed. What is open beside that has a row in `reservations`.
CREATE TABLE reservation_notes (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    opened BLOB NOT NULL,
    ended BLOB NOT NULL
);
-- Nobody asks for it, and it had to be kept for each of them.
DROP INDEX reservations_by_user;

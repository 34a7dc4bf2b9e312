-- Entries that Lago counts from another moment than their own: what came before its subscription, or after its month was billed.
-- With them it can be said of every entry what was sent of it.
CREATE TABLE lago_moved (
    position BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL
);
CREATE INDEX lago_dead_by_user ON lago_dead (user_id);

-- Under which id of Lago's the entries of a user are there, from a position of the log on: what went out under one id stays under it,
-- whatever the user's is later. A user's first id is that of all their entries.
CREATE TABLE lago_names (
    user_id TEXT NOT NULL,
    from_position BIGINT NOT NULL,
    external_id TEXT NOT NULL,
    PRIMARY KEY (user_id, from_position)
);
INSERT INTO lago_names (user_id, from_position, external_id)
SELECT user_id, 0, external_id FROM lago_subscriptions;

-- What each subscription is worth a month since when, and by which cause: an event of Stripe's, a look at the object, a coupon that
-- ran out, another catalogue. Rows are only added, each cause once. The last row of a subscription, by `since` and `place`, is what
-- `subscription_totals` counts of it. `status` is nothing for one that Stripe no longer has. `exact`: instant and worth were told,
-- not concluded.
CREATE TABLE revenue_points (
    subscription TEXT NOT NULL,
    since BIGINT NOT NULL,
    place BIGINT NOT NULL,
    cause TEXT NOT NULL,
    customer TEXT,
    status TEXT,
    tier TEXT NOT NULL,
    currency TEXT NOT NULL,
    monthly_minor BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    exact BIGINT NOT NULL,
    PRIMARY KEY (subscription, since, place, cause)
) WITHOUT ROWID;
CREATE UNIQUE INDEX revenue_points_by_cause ON revenue_points (subscription, cause);
CREATE INDEX revenue_points_by_customer ON revenue_points (customer);

-- What was counted before there were points: since the subscription was made, as far as anybody can say.
INSERT INTO revenue_points
    SELECT id, created, 0, 'first seen', customer, status, tier, currency, monthly_minor,
        CASE WHEN fault IS NULL THEN 0 ELSE 1 END, 0
    FROM subscriptions WHERE deleted = 0;

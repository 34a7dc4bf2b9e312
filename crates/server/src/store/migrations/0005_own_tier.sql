-- While a subscription runs, `subscription_tier` says its tier, and this is the one that the user has without it.
ALTER TABLE users ADD COLUMN own_tier TEXT;

//! The catalogue: the built-in one, every fault of a bad one at once, and the tier of a subscription.

use std::collections::BTreeMap;

use billing::catalogue::{Catalogue, Overage, PastDue, TierChange, TierEvidence, TierId, WhenUnknown};

use crate::check;

#[test]
fn the_built_in_catalogue() {
    let catalogue = Catalogue::built_in();
    assert_eq!((catalogue.currency.code(), catalogue.time_zone.iana_name()), ("usd", Some("UTC")));
    assert_eq!((catalogue.past_due, catalogue.plan_change), (PastDue::Count, TierChange::KeepUsed));
    assert!(catalogue.tiers.iter().all(|tier| tier.trial_days.is_none()));
    let tiers = catalogue.tiers.iter().map(|tier| {
        let (price, included) = (tier.price.wire(), tier.included_credits);
        format!("{} {price} {included} {} {:?}", tier.id, tier.price_per_1k.wire(), tier.overage)
    });
    let golden = [
        "trial 0.00 100 0.00 Block",
        "starter 19.00 200 0.00 Block",
        "professional 49.00 500 2.00 Bill",
        "enterprise 99.00 5000 1.00 Bill",
    ];
    assert_eq!(tiers.collect::<Vec<_>>(), golden, "in the order of the file");
    let events: Vec<_> = catalogue.events.iter().map(|(name, event)| format!("{name} {}", event.lago_code)).collect();
    assert_eq!(events, ["embedding embedding_call", "inference inference_call", "stt stt_call", "tts tts_call"]);
}

const FULL: &str = r#"
currency = "kwd"
time_zone = "Asia/Kuwait"
revenue.past_due = "exclude"
plan_change = "prorate"
[events.image]
credits = "2.5"
lago_code = "images"
[tiers.zeta]
name = "Zeta"
price = "49.001"
stripe_prices = ["price_1", "price_2"]
included_credits = "500.5"
price_per_1k = "2.000"
overage = "bill"
overage_cap = "100000"
[tiers.zeta.limits.image]
per_day = "10000"
per_minute = "0"
when_unknown = "closed"
[tiers.alpha]
name = " Alpha "
price = "0"
trial_days = 14
"#;

#[test]
fn every_member_is_read() {
    let catalogue = Catalogue::parse(FULL).expect("a catalogue");
    assert_eq!((catalogue.currency.code(), catalogue.time_zone.iana_name()), ("kwd", Some("Asia/Kuwait")));
    assert_eq!((catalogue.past_due, catalogue.plan_change), (PastDue::Exclude, TierChange::Prorate));
    assert_eq!(catalogue.events.len(), 5, "the four that always exist, and one more");
    let image = &catalogue.events["image"];
    assert_eq!((image.credits.wire(), image.lago_code.as_str()), ("2.5".to_owned(), "images"));
    let [zeta, alpha] = catalogue.tiers.as_slice() else { panic!("two tiers, in the order of the file") };
    assert_eq!((zeta.id.as_str(), alpha.id.as_str()), ("zeta", "alpha"));
    assert_eq!((zeta.price.minor(), zeta.price_per_1k.minor()), (49_001, 2_000));
    assert_eq!((zeta.included_credits.wire(), zeta.overage), ("500.5".to_owned(), Overage::Bill));
    assert_eq!(zeta.overage_cap.map(|cap| cap.wire()), Some("100000".to_owned()));
    let limit = zeta.limits["image"];
    let limits = [limit.per_day, limit.per_month, limit.per_minute].map(|limit| limit.map(|limit| limit.wire()));
    assert_eq!(limits, [Some("10000".to_owned()), None, Some("0".to_owned())]);
    assert_eq!(limit.when_unknown, WhenUnknown::Closed);
    assert_eq!((alpha.name.as_str(), alpha.overage, alpha.overage_cap), ("Alpha", Overage::Block, None));
    assert_eq!((zeta.trial_days, alpha.trial_days), (None, Some(14)));
}

fn faults(toml: &str) -> Vec<String> {
    let faults = Catalogue::parse(toml).expect_err("it is bad");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn all_faults_are_named_at_once() {
    let faults = faults(
        r#"
        currency = "xyz"
        time_zone = "Mars/Olympus"
        revenue.past_due = "maybe"
        revenue.future = "yes"
        colour = "blue"
        [events.inference]
        credits = "-1"
        [events.image]
        credits = 2
        [tiers.unknown]
        name = "Unknown"
        price = "1.00"
        [tiers.starter]
        price = "nineteen"
        stripe_prices = ["price_1", "price_1", " "]
        included_credits = "0.0000001"
        [tiers.professional]
        name = "Starter"
        stripe_prices = ["price_1", 7]
        overage = "bill"
        [tiers.professional.limits.video]
        per_day = "-1"
        per_year = "1"
        [tiers.starter.limits.tts]
        when_unknown = "perhaps"
        [tiers."Pro Plan"]
        name = "starter"
        price = 49.00
        overage_cap = "1e6"
        "#,
    );
    let wanted = [
        "line 2: currency: \"xyz\" is no currency of ISO 4217",
        "line 3: time_zone: \"Mars/Olympus\" is not a time zone of the IANA database",
        "line 4: revenue.past_due: \"maybe\" is none of \"count\", \"exclude\"",
        "line 5: revenue.future: unknown key; known are past_due",
        "line 6: colour: unknown key; known are currency, time_zone, revenue, plan_change, events, tiers",
        "line 8: events.inference.credits: \"-1\" is negative",
        "line 10: events.image.credits: a string in quotes is needed, this is integer",
        "line 11: tiers.unknown: this is what a tier is called that nothing is known about",
        "line 14: tiers.starter.name: missing",
        "line 15: tiers.starter.price: \"nineteen\" is not a decimal number",
        "line 16: tiers.starter.stripe_prices: \"price_1\" already sells tiers.starter",
        "line 16: tiers.starter.stripe_prices: an id is needed",
        "line 17: tiers.starter.included_credits: more than 6 decimals",
        "line 18: tiers.professional.price: missing",
        "line 18: tiers.professional.price_per_1k: missing: overage = \"bill\" needs a price",
        "line 19: tiers.professional.name: \"Starter\" already means tiers.starter",
        "line 20: tiers.professional.stripe_prices: \"price_1\" already sells tiers.starter",
        "line 20: tiers.professional.stripe_prices: a list of strings is needed, this is array",
        "line 22: tiers.professional.limits.video: there is no event type \"video\"",
        "line 22: tiers.professional.limits.video.when_unknown: missing: \"open\" or \"closed\"",
        "line 23: tiers.professional.limits.video.per_day: the number is negative",
        "line 24: tiers.professional.limits.video.per_year: unknown key; known are per_day, per_month, per_minute, when_unknown",
        "line 25: tiers.starter.limits.tts: it limits nothing: per_day, per_month or per_minute is needed",
        "line 26: tiers.starter.limits.tts.when_unknown: \"perhaps\" is none of \"open\", \"closed\"",
        "line 27: tiers.Pro Plan: a name is made of a-z, 0-9, _ and -, at most 64 of them",
        "line 28: tiers.Pro Plan.name: \"starter\" already means tiers.professional",
        "line 29: tiers.Pro Plan.price: a string in quotes is needed, this is float",
        "line 30: tiers.Pro Plan.overage_cap: \"1e6\" is not a decimal number",
    ];
    let missed: Vec<_> = wanted.iter().filter(|wanted| !faults.iter().any(|fault| fault == *wanted)).collect();
    let invented: Vec<_> = faults.iter().filter(|fault| !wanted.contains(&fault.as_str())).collect();
    assert!(missed.is_empty() && invented.is_empty(), "missed {missed:#?}\ninvented {invented:#?}");
}

#[test]
fn one_fault_alone() {
    let bare = |rest: &str| format!("currency = \"usd\"\n[tiers.one]\nname = \"One\"\nprice = \"1.00\"\n{rest}");
    assert!(Catalogue::parse(&bare("")).is_ok(), "the least that is a catalogue");
    let most = bare("included_credits = \"2305843009213.693951\"");
    assert!(Catalogue::parse(&most).is_ok(), "as much as an account can count");
    assert_eq!(faults(""), ["line 1: currency: missing", "line 1: tiers: at least one tier is needed"]);
    assert_eq!(faults(&bare("").replace("usd", "dollar")).len(), 1, "a bad currency does not make every price bad");
    check(
        "
        price_per_1k = \"-2.00\"   -> line 5: tiers.one.price_per_1k: \"-2.00\" is negative
        price_per_1k = \"2.001\"   -> line 5: tiers.one.price_per_1k: more than 2 decimals
        price_per_1k = \"-0\"      -> line 5: tiers.one.price_per_1k: minus zero is not an amount
        overage_cap = \"-1\"       -> line 5: tiers.one.overage_cap: \"-1\" is negative
        included_credits = \"2305843009213.693952\" -> line 5: tiers.one.included_credits: 2305843009213.693952 is more than an account can count, at most 2305843009213.693951
        overage_cap = \"5000000000000\" -> line 5: tiers.one.overage_cap: 5000000000000 is more than an account can count, at most 2305843009213.693951
        limits = \"none\"          -> line 5: tiers.one.limits: a table is needed, this is string
        stripe_prices = \"price\"  -> line 5: tiers.one.stripe_prices: a list of strings is needed, this is string
        overage = \"Bill\"         -> line 5: tiers.one.overage: \"Bill\" is none of \"bill\", \"block\"
        prices = []                -> line 5: tiers.one.prices: unknown key; known are name, price, stripe_prices, included_credits, price_per_1k, overage, overage_cap, trial_days, limits
        trial_days = 14            -> line 5: tiers.one.trial_days: a trial costs nothing: price = \"0\" is needed
        trial_days = \"14\"        -> line 5: tiers.one.trial_days: a whole number is needed, this is string
        trial_days = 14.5          -> line 5: tiers.one.trial_days: a whole number is needed, this is float
        ",
        |line| faults(&bare(line)).join(" / "),
    );
}

#[test]
fn a_trial_is_a_number_of_days_and_costs_nothing() {
    let free = |rest: &str| format!("currency = \"usd\"\n[tiers.one]\nname = \"One\"\nprice = \"0\"\n{rest}");
    check(
        "
        trial_days = 1       -> 1
        trial_days = 366     -> 366
        trial_days = 1_4     -> 14
        trial_days = 0       -> line 5: tiers.one.trial_days: 0 is not within 1 to 366
        trial_days = -1      -> line 5: tiers.one.trial_days: -1 is not within 1 to 366
        trial_days = 367     -> line 5: tiers.one.trial_days: 367 is not within 1 to 366
        trial_days = 99999   -> line 5: tiers.one.trial_days: 99999 is not within 1 to 366
        trial_days = 0x0e    -> 14
        trial_day = 14       -> line 5: tiers.one.trial_day: unknown key; known are name, price, stripe_prices, included_credits, price_per_1k, overage, overage_cap, trial_days, limits
        ",
        |line| match Catalogue::parse(&free(line)) {
            Ok(catalogue) => catalogue.tiers[0].trial_days.expect("days").to_string(),
            Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "),
        },
    );
    let billed = free("trial_days = 14\noverage = \"bill\"\nprice_per_1k = \"1\"");
    assert_eq!(
        faults(&billed),
        ["line 5: tiers.one.trial_days: a trial stops at its credits: overage = \"block\" is needed"]
    );
    let word = free("").replace("[tiers", "plan_change = \"reset\"\n[tiers");
    assert_eq!(faults(&word), ["line 2: plan_change: \"reset\" is none of \"keep_used\", \"prorate\""]);
}

#[test]
fn text_that_is_no_toml_is_said_with_its_lines() {
    let faults =
        Catalogue::parse("currency = \"usd\"\ntime_zone = \n[tiers.one\nname = \"One\"").expect_err("it is bad");
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 3], "{faults:?}");
    assert!(faults.iter().all(|fault| fault.path.is_empty() && !fault.problem.is_empty()));
    let twice = Catalogue::parse("currency = \"usd\"\ncurrency = \"eur\"").expect_err("said twice");
    assert_eq!(twice[0].line, 2);
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split('&').filter_map(pair).collect()
}

/// Price ids, the subscription's metadata, and that of each product; parted by `|`.
fn tier_of(catalogue: &Catalogue, row: &str) -> TierId {
    let mut parts = row.split('|').map(str::trim);
    let prices: Vec<&str> = parts.next().unwrap_or_default().split_whitespace().collect();
    let subscription = pairs(parts.next().unwrap_or_default());
    let products: Vec<_> = parts.map(pairs).collect();
    catalogue.tier_of(&TierEvidence { prices: &prices, subscription: &subscription, products: &products })
}

#[test]
fn predecessor_4a6_s28_the_tier_of_a_subscription() {
    let catalogue = Catalogue::built_in();
    check(
        "
        price_starter_monthly                                  -> starter
        price_professional_monthly_jpy                         -> professional
        price_starter_yearly price_enterprise_yearly           -> enterprise     # the most expensive of several
        price_enterprise_yearly price_starter_yearly           -> enterprise
        price_starter_monthly | tier=enterprise                -> starter        # S-28: the price decides
        price_other | tier=professional                        -> professional
        | tier_id=professional                                 -> professional   # what checkouts write
        | tier_name=Professional                               -> professional   # by name
        | tier=  PROFESSIONAL                                  -> professional
        | tier=starter&tier_id=enterprise&tier_name=Trial      -> starter
        | tier=gold&tier_id=enterprise                         -> enterprise     # only what names a tier counts
        | tier=gold | tier=starter                             -> starter        # then the product's
        | | tier=starter | tier_name=Enterprise                -> enterprise
        | tier=trial | tier=enterprise                         -> trial
        |                                                      -> unknown        # and not trial
        price_other | tier=gold | tier=silver                  -> unknown
        | tier=                                                -> unknown
        | tier=unknown                                         -> unknown
        ",
        |row| tier_of(&catalogue, row).as_str().to_owned(),
    );
}

#[test]
fn the_fingerprint_changes_with_every_decision_and_with_nothing_else() {
    let fingerprint = |text: &str| Catalogue::parse(text).expect("a catalogue").fingerprint();
    let original = fingerprint(FULL);
    assert_eq!(fingerprint(&format!("# a remark\n{}", FULL.replace("49.001", "049.001"))), original);
    let changes = [
        ("\"kwd\"", "\"bhd\""),
        ("Asia/Kuwait", "Asia/Riyadh"),
        ("exclude", "count"),
        ("2.5", "2.6"),
        ("images", "pictures"),
        ("[tiers.alpha]", "[tiers.beta]"),
        ("\"Zeta\"", "\"Eta\""),
        ("49.001", "49.002"),
        ("\"price_2\"", "\"price_3\""),
        ("\"price_1\", \"price_2\"", "\"price_1, price_2\""),
        ("500.5", "500.6"),
        ("2.000", "2.001"),
        ("\"bill\"", "\"block\""),
        ("100000", "100001"),
        ("10000\"\n", "10001\"\n"),
        ("per_minute", "per_month"),
        ("closed", "open"),
        ("\"prorate\"", "\"keep_used\""),
        ("14", "15"),
        ("trial_days = 14\n", ""),
    ];
    let mut seen = vec![original];
    for (from, to) in changes {
        let other = FULL.replace(from, to);
        assert_ne!(other, FULL, "{from} is in the file");
        seen.push(fingerprint(&other));
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
    // An update of the program is no other catalogue: this was so before there were trials and shares.
    assert_eq!(Catalogue::built_in().fingerprint(), "1c30cec3d905c61b");
}

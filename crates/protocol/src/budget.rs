//! Money, cost caps and exact costs (runtime §11, §33). Only what is shown is rounded.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::Timestamp;
use crate::tag;

/// An amount of money: whole cents of a US dollar. On the wire `{"amount": "150", "currency": "USD"}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    /// Cents.
    pub cents: u64,
}

const CURRENCY: &str = "USD";

#[derive(Serialize, Deserialize, JsonSchema)]
struct MoneyText {
    /// Whole cents.
    amount: String,
    /// `USD`.
    currency: String,
}

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        MoneyText::json_schema(generator)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = MoneyText {
            amount: self.cents.to_string(),
            currency: CURRENCY.to_owned(),
        };
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let MoneyText { amount, currency } = MoneyText::deserialize(deserializer)?;
        let cents = amount
            .parse()
            .ok()
            .filter(|cents: &u64| currency == CURRENCY && cents.to_string() == amount);
        cents.map(|cents| Self { cents }).ok_or_else(|| {
            serde::de::Error::custom("expected whole cents without leading zeros, in USD")
        })
    }
}

/// A session's cost cap (api §15): `{"type": "limit", "max_list_cost": {…}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// `limit`.
    #[serde(rename = "type")]
    pub kind: tag::Limit,
    /// The most that the session may cost at list prices; more than nothing.
    pub max_list_cost: Money,
}

/// Why a budget cannot be taken, and for which member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BudgetError {
    /// The member's path, from `budget` on.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Budget {
    /// A cap of so many cents.
    pub fn of_cents(cents: u64) -> Self {
        Self {
            kind: tag::Limit::Value,
            max_list_cost: Money { cents },
        }
    }

    /// Reads a client's budget (runtime BU-1).
    ///
    /// # Errors
    /// When a member is missing or not of its form.
    pub fn parse(value: &Value) -> Result<Self, BudgetError> {
        let wrong = |field, problem| Err(BudgetError { field, problem });
        if value["type"] != "limit" {
            return wrong("budget.type", "expected \"limit\"");
        }
        let cap = &value["max_list_cost"];
        if cap["currency"] != CURRENCY {
            return wrong(
                "budget.max_list_cost.currency",
                "expected \"USD\", the only currency",
            );
        }
        let amount = cap["amount"].as_str().unwrap_or_default();
        let cents = amount
            .parse()
            .ok()
            .filter(|cents: &u64| *cents > 0 && cents.to_string() == amount);
        match cents {
            Some(cents) => Ok(Self::of_cents(cents)),
            None => wrong(
                "budget.max_list_cost.amount",
                "expected a text of whole cents, more than 0 and without leading zeros or decimals",
            ),
        }
    }
}

/// An exact cost (runtime BU-3): tokens at list prices, running time, web searches.
///
/// Counted in ninths of 10⁻¹³ dollars, in which a token at any price and a millisecond of running time are whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u128);

impl Cost {
    /// One cent.
    const CENT: u128 = 9 * 100_000_000_000;
    /// A millisecond at $0.08 an hour.
    const MILLISECOND: u128 = 2_000_000;

    /// Tokens that cost so many 10⁻¹³ dollars.
    pub fn of_tokens(tenth_picodollars: u64) -> Self {
        Self(u128::from(tenth_picodollars) * 9)
    }

    /// With so many milliseconds of running time; none when the clock went back.
    #[must_use]
    pub fn plus_running(self, millis: i64) -> Self {
        let millis = u128::try_from(millis).unwrap_or(0);
        Self(self.0 + millis * Self::MILLISECOND)
    }

    /// Whether the cap is reached (runtime BU-4).
    pub fn reaches(self, budget: &Budget) -> bool {
        self.0 >= u128::from(budget.max_list_cost.cents) * Self::CENT
    }

    /// Rounded to the nearest cent, a half up.
    pub fn rounded(self) -> Money {
        let cents = (self.0 + Self::CENT / 2) / Self::CENT;
        Money {
            cents: u64::try_from(cents).unwrap_or(u64::MAX),
        }
    }
}

/// What a session has used of its budget, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumption {
    /// When.
    pub at: Timestamp,
    /// The cost so far.
    pub cost: Cost,
    /// Whether a model without a list price was used, so that the cost is not known.
    pub unpriced: bool,
}

impl Consumption {
    /// Whether a session with this budget may make no further model request (runtime BU-4, BU-11).
    pub fn exhausts(&self, budget: Option<&Budget>) -> bool {
        budget.is_some_and(|budget| self.unpriced || self.cost.reaches(budget))
    }

    /// As clients see it: null when it is not known.
    pub fn list_cost(&self) -> Option<Money> {
        (!self.unpriced).then(|| self.cost.rounded())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bu_1_a_budget_is_whole_cents_of_dollars() {
        #[track_caller]
        fn check(amount: Value, expected: Result<u64, &str>) {
            let value =
                json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}});
            let parsed = Budget::parse(&value);
            let found = parsed
                .as_ref()
                .map(|budget| budget.max_list_cost.cents)
                .map_err(|error| error.field);
            assert_eq!(found, expected, "{value}");
            if let Ok(budget) = parsed {
                assert_eq!(json!(budget), value);
            }
        }
        let amount = Err("budget.max_list_cost.amount");
        check(json!("1"), Ok(1));
        check(json!("150"), Ok(150));
        for wrong in [
            "0",
            "01",
            "1.0",
            "1.5",
            "-1",
            "+1",
            "",
            " 1",
            "1e2",
            "99999999999999999999",
        ] {
            check(json!(wrong), amount);
        }
        check(json!(100), amount);
        check(Value::Null, amount);
    }

    #[test]
    fn bu_1_type_and_currency_are_checked() {
        #[track_caller]
        fn check(value: Value, field: &str) {
            assert_eq!(
                Budget::parse(&value).map_err(|error| error.field),
                Err(field)
            );
        }
        check(json!({}), "budget.type");
        check(json!("limit"), "budget.type");
        check(json!({"type": "limit"}), "budget.max_list_cost.currency");
        check(
            json!({"type": "limit", "max_list_cost": {"amount": "1", "currency": "usd"}}),
            "budget.max_list_cost.currency",
        );
    }

    #[test]
    fn bu_3_costs_are_exact_and_only_shown_rounded() {
        const CENT: u64 = 100_000_000_000;
        #[track_caller]
        fn check(cost: Cost, shown: u64, reaches_a_cent: bool) {
            assert_eq!(cost.rounded().cents, shown);
            assert_eq!(cost.reaches(&Budget::of_cents(1)), reaches_a_cent);
        }
        check(Cost::default(), 0, false);
        check(Cost::of_tokens(CENT - 1), 1, false);
        check(Cost::of_tokens(CENT), 1, true);
        check(Cost::of_tokens(CENT / 2), 1, false);
        check(Cost::of_tokens(CENT / 2 - 1), 0, false);
        // $0.08 an hour: a cent is 7.5 minutes, exactly.
        check(Cost::default().plus_running(450_000), 1, true);
        check(Cost::default().plus_running(449_999), 1, false);
        check(Cost::default().plus_running(3_600_000), 8, true);
        check(Cost::of_tokens(CENT / 2).plus_running(225_000), 1, true);
        check(Cost::default().plus_running(-5), 0, false);
    }
}

//! List prices: exact integers, so that no sum ever drifts (runtime BU-3, US-6).

use super::Usage;

/// The price of one token in 10⁻¹² dollars, which is micro-dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price(u64);

impl Price {
    /// From dollars per million tokens; `None` for what is negative, not finite, has more than six decimals or
    /// is beyond a million dollars.
    pub fn per_million(dollars: f64) -> Option<Self> {
        let micros = dollars * 1e6;
        let whole = micros.round();
        let fits = (0.0..=1e12).contains(&whole) && (micros - whole).abs() < 1e-3;
        fits.then_some(Self(whole as u64))
    }

    /// In dollars per million tokens.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// A model's list prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Uncached input.
    pub input: Price,
    /// Output.
    pub output: Price,
    /// Input read from a cache.
    pub cache_read: Price,
    /// Input written to a cache for five minutes.
    pub cache_write: Price,
    /// Input written to a cache for an hour.
    pub cache_write_1h: Price,
}

impl Prices {
    /// What a request costs, in 10⁻¹³ dollars. One that is pinned to US hardware costs a tenth more (runtime US-6).
    pub fn cost(&self, usage: Usage, inference_geo: Option<&str>) -> u64 {
        let parts = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_input_tokens, self.cache_read),
            (usage.cache_creation_5m_input_tokens, self.cache_write),
            (usage.cache_creation_1h_input_tokens, self.cache_write_1h),
        ];
        let tenths: u128 = if inference_geo == Some("us") { 11 } else { 10 };
        let cost = parts
            .into_iter()
            .map(|(tokens, price)| u128::from(tokens) * u128::from(price.0))
            .fold(0, u128::saturating_add)
            .saturating_mul(tenths);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bu_3_prices_are_exact_to_six_decimals() {
        #[track_caller]
        fn check(dollars: f64, expected: Option<u64>) {
            assert_eq!(Price::per_million(dollars).map(|price| price.0), expected);
        }
        check(3.0, Some(3_000_000));
        check(0.3, Some(300_000));
        check(0.1 + 0.2, Some(300_000));
        check(18.75, Some(18_750_000));
        check(0.000_001, Some(1));
        check(0.0, Some(0));
        check(0.000_000_5, None);
        check(-1.0, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
    }

    #[test]
    fn us_6_each_kind_of_token_has_its_price() {
        let price = |dollars| Price::per_million(dollars).unwrap();
        let prices = Prices {
            input: price(3.0),
            output: price(15.0),
            cache_read: price(0.3),
            cache_write: price(3.75),
            cache_write_1h: price(6.0),
        };
        let usage = Usage {
            input_tokens: 1_000_000,
            output_tokens: 1_000_000,
            cache_read_input_tokens: 1_000_000,
            cache_creation_5m_input_tokens: 1_000_000,
            cache_creation_1h_input_tokens: 1_000_000,
        };
        // $28.05.
        assert_eq!(prices.cost(usage, None), 280_500_000_000_000);
        assert_eq!(prices.cost(usage, Some("eu")), 280_500_000_000_000);
        assert_eq!(prices.cost(usage, Some("us")), 308_550_000_000_000);
        let one = Usage {
            input_tokens: 1,
            ..Usage::default()
        };
        assert_eq!(prices.cost(one, None), 30_000_000);
        let huge = Usage {
            input_tokens: u64::MAX,
            ..usage
        };
        assert_eq!(prices.cost(huge, None), u64::MAX);
    }
}

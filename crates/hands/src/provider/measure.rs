//! What a probe has found, as figures (security SBX-2, SBX-3).

use super::{Holds, Probe};

impl Probe {
    /// Sets the figures: `manyhands_sandbox_info` is 1 for the provider's strength and each helper's version, and
    /// `manyhands_sandbox_limit` is 1 for what becomes of each limit and 0 for what does not.
    pub fn measure(&self) {
        let strength = name(&self.strength);
        for helper in &self.helpers {
            let labels = [
                ("provider", self.provider.to_owned()),
                ("strength", strength.clone()),
                ("helper", helper.name.to_owned()),
                ("version", helper.version.clone()),
            ];
            metrics::gauge!("manyhands_sandbox_info", &labels).set(1.0);
        }
        for limit in &self.limits {
            for holds in [Holds::Hard, Holds::Soft, Holds::No] {
                let labels = [("limit", limit.name.to_owned()), ("holds", name(&holds))];
                let value = f64::from(u8::from(limit.holds == holds));
                metrics::gauge!("manyhands_sandbox_limit", &labels).set(value);
            }
        }
        metrics::gauge!("manyhands_sandbox_usable").set(f64::from(u8::from(self.usable())));
    }
}

/// The word that a value is written as.
fn name(value: &impl serde::Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.as_ref()
        .and_then(|word| word.as_str())
        .unwrap_or_default()
        .to_owned()
}

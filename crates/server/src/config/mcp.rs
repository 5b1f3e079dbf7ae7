//! `[mcp]`: limits of time and size towards MCP servers (runtime MC-12).

use std::time::Duration;

use manyhands_mcp::Settings;
use serde::Deserialize;

use super::{Error, wrong};

/// The longest time that can be set.
const LONGEST: Duration = Duration::from_secs(3600);

/// The most bytes that can be set.
const MOST: usize = 64 << 20;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct McpSection {
    connect_seconds: Option<u64>,
    list_seconds: Option<u64>,
    call_seconds: Option<u64>,
    answer_bytes: Option<usize>,
    tokens_in_plain_http: Option<bool>,
}

impl McpSection {
    pub(super) fn effective(self) -> Result<Settings, Error> {
        let usual = Settings::default();
        let seconds = |own: Option<u64>, usual| own.map_or(usual, Duration::from_secs);
        let settings = Settings {
            connect: seconds(self.connect_seconds, usual.connect),
            list: seconds(self.list_seconds, usual.list),
            call: seconds(self.call_seconds, usual.call),
            answer_bytes: self.answer_bytes.unwrap_or(usual.answer_bytes),
            tokens_in_plain_http: self
                .tokens_in_plain_http
                .unwrap_or(usual.tokens_in_plain_http),
            ..usual
        };
        for (name, time) in [
            ("connect_seconds", settings.connect),
            ("list_seconds", settings.list),
            ("call_seconds", settings.call),
        ] {
            if time.is_zero() || time > LONGEST {
                let problem = format!("must be from 1 to {}", LONGEST.as_secs());
                return Err(wrong(format!("mcp.{name}"), problem));
            }
        }
        if !(1024..=MOST).contains(&settings.answer_bytes) {
            let problem = format!("must be from 1024 to {MOST}");
            return Err(wrong("mcp.answer_bytes", problem));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mcp(text: &str) -> Result<Settings, Error> {
        let section: McpSection = toml::from_str(text).expect("a section");
        section.effective()
    }

    /// runtime MC-12
    #[test]
    fn mc_12_time_and_size_are_the_operators() {
        assert_eq!(mcp("").expect("the usual"), Settings::default());
        let own =
            mcp("connect_seconds = 3\nlist_seconds = 4\ncall_seconds = 600\nanswer_bytes = 2048");
        let own = own.expect("its own");
        assert_eq!(own.connect, Duration::from_secs(3));
        assert_eq!(own.list, Duration::from_secs(4));
        assert_eq!(own.call, Duration::from_secs(600));
        assert_eq!(own.answer_bytes, 2048);
        #[track_caller]
        fn check(text: &str, problem: &str) {
            let error = mcp(text).expect_err(text).to_string();
            assert!(error.contains(problem), "{error}");
        }
        check("connect_seconds = 0", "mcp.connect_seconds");
        check("list_seconds = 3601", "mcp.list_seconds");
        check("call_seconds = 0", "mcp.call_seconds");
        check("answer_bytes = 10", "mcp.answer_bytes");
        check("answer_bytes = 100000000", "mcp.answer_bytes");
        assert!(toml::from_str::<McpSection>("calls = 1").is_err());
    }
}

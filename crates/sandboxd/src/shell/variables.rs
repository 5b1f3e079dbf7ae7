//! Variables that the server sets, such as the placeholders of secrets (runtime VA-9). They come over the control channel, so that no
//! list of processes shows them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Actor, Handle, Job, Message, State};

/// How long a live shell may take to be told; nobody waits for it but the next call.
const LIMIT: Duration = Duration::from_secs(10);

/// Variables by their names. Their values are shown to nobody.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(pub BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// Whether a shell can have them: names of letters, digits and `_`, and no value with a NUL.
    pub fn are_valid(&self) -> bool {
        self.0.iter().all(|(name, value)| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let named = !name.is_empty() && name.bytes().all(plain);
            named && !name.as_bytes()[0].is_ascii_digit() && !value.contains('\0')
        })
    }

    /// The command that sets them in a shell that runs.
    fn command(&self) -> String {
        let set = |(name, value): (&String, &String)| {
            format!("builtin export {name}='{}'\n", value.replace('\'', r"'\''"))
        };
        self.0.iter().map(set).collect()
    }
}

impl Handle {
    /// Sets variables of the environment, for what is run after this.
    pub fn set(&self, variables: Variables) {
        self.send(Message::Set(variables));
    }
}

impl Actor {
    /// Takes them for every shell to come, and tells the one that runs between two calls.
    pub(super) fn set(&mut self, variables: Variables) {
        if matches!(self.shell, State::Live(_)) && !variables.0.is_empty() {
            let told = Job::of_nobody(variables.command(), LIMIT);
            self.queue.push_back(told);
        }
        self.variables = variables;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str, value: &str) -> Variables {
        Variables([(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn names_are_a_shells_and_values_are_quoted() {
        for (name, valid) in [
            ("API_KEY", true),
            ("_x9", true),
            ("9x", false),
            ("", false),
            ("a b", false),
            ("a;b", false),
            ("a=b", false),
        ] {
            assert_eq!(variables(name, "x").are_valid(), valid, "{name}");
        }
        assert!(!variables("A", "x\0").are_valid());
        let quoted = variables("A", "it's $x");
        assert_eq!(quoted.command(), "builtin export A='it'\\''s $x'\n");
        assert_eq!(format!("{quoted:?}"), "{\"A\"}");
    }
}

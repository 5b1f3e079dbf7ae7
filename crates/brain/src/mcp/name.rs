//! How a model names a tool of a server (runtime MC-4): `mcp__<server>__<tool>`, in letters and lengths that every model
//! API takes, and so that no two tools have one name.

use aws_lc_rs::digest;

/// The longest name that all model APIs take.
const LONGEST: usize = 64;

/// What is left of a server's and of a tool's name that do not fit.
const PART: usize = 22;

/// Hex digits that tell apart names which are not written out.
const DIGITS: usize = 12;

/// The name of a tool for models. It depends on these two names alone, so that it stays when others come and go.
///
/// A name that is written out can be taken apart again, and never ends as those do that are not.
pub(crate) fn model_name(server: &str, tool: &str) -> String {
    let whole = format!("mcp__{server}__{tool}");
    if whole.len() <= LONGEST && is_plain(server, tool) {
        return whole;
    }
    let digest = digest::digest(
        &digest::SHA256,
        format!("{}:{server}{tool}", server.len()).as_bytes(),
    );
    let digits: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "mcp__{}__{}_{}",
        legal(server),
        legal(tool),
        &digits[..DIGITS]
    )
}

/// The tool that a name means on this server, where it is written out.
pub(crate) fn named<'a>(server: &str, name: &'a str) -> Option<&'a str> {
    let tool = name.strip_prefix("mcp__")?.strip_prefix(server)?;
    let tool = tool.strip_prefix("__")?;
    (!tool.is_empty() && model_name(server, tool) == name).then_some(tool)
}

/// Whether the two names joined can be told apart, and from a name with digits at its end.
fn is_plain(server: &str, tool: &str) -> bool {
    let parted = !server.contains("__") && !server.ends_with('_');
    let digits = tool.rsplit_once('_').is_some_and(|(_, end)| {
        end.len() == DIGITS && end.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    parted && !digits && server.chars().chain(tool.chars()).all(is_legal)
}

/// The beginning of a name, in legal letters.
fn legal(name: &str) -> String {
    let letters = name.chars().take(PART);
    letters
        .map(|letter| if is_legal(letter) { letter } else { '_' })
        .collect()
}

fn is_legal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// runtime MC-4
    #[test]
    fn mc_4_names_are_legal_for_models_and_mean_one_tool() {
        #[track_caller]
        fn check(server: &str, tool: &str, expected: &str) {
            let name = model_name(server, tool);
            let pattern = regex::Regex::new("^[a-zA-Z0-9_-]{1,64}$").unwrap();
            assert!(pattern.is_match(&name), "{name}");
            match expected.strip_suffix('#') {
                Some(begin) => {
                    let digits = name.strip_prefix(begin).unwrap_or_else(|| panic!("{name}"));
                    assert_eq!(digits.len(), DIGITS, "{name}");
                    assert_eq!(named(server, &name), None, "{name}");
                }
                None => {
                    assert_eq!(name, expected);
                    assert_eq!(named(server, &name), Some(tool), "{name}");
                }
            }
        }
        check("docs", "search", "mcp__docs__search");
        check("docs", "_search", "mcp__docs___search");
        check("my-docs_2", "read-it__all", "mcp__my-docs_2__read-it__all");
        check("docs.example", "search", "mcp__docs_example__search_#");
        check("docs", "pages/search", "mcp__docs__pages_search_#");
        check("docs", "sück", "mcp__docs__s_ck_#");
        check("a__b", "c", "mcp__a__b__c_#");
        check("a_", "b", "mcp__a___b_#");
        let long = "t".repeat(128);
        check("docs", &long, &format!("mcp__docs__{}_#", &long[..PART]));
        check(
            &"s".repeat(64),
            &long,
            &format!("mcp__{}__{}_#", "s".repeat(PART), &long[..PART]),
        );
        // One that looks as if it were not written out is not.
        check("docs", "t_0123456789ab", "mcp__docs__t_0123456789ab_#");
        check("docs", "t_0123456789az", "mcp__docs__t_0123456789az");
    }

    /// runtime MC-4
    #[test]
    fn mc_4_different_tools_have_different_names() {
        let parts = [
            "a", "b", "_", "a_", "_a", "a__b", "a__", "__b", "a.b", "a_b", "a b", "b__c",
        ];
        let mut seen = HashSet::new();
        for server in parts {
            for tool in parts {
                assert!(seen.insert(model_name(server, tool)), "{server:?} {tool:?}");
            }
        }
        let stolen = model_name("a.", "b");
        let tool = stolen.strip_prefix("mcp__a__").unwrap_or(&stolen);
        assert_ne!(
            model_name("a", tool),
            stolen,
            "no server takes another's name"
        );
    }
}

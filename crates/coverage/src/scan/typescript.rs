//! TypeScript: calls of `test` with a title, and the comments right above them.

use std::sync::LazyLock;

use regex::Regex;

use super::Named;

pub(super) fn tests(source: &str) -> Vec<Named> {
    static CALL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?m)^[ \t]*(?:await[ \t]+)?(?:test|it)\(\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|`((?:\\.|[^`\\])*)`)"#)
            .expect("a pattern")
    });
    CALL.captures_iter(source)
        .map(|call| Named {
            name: call
                .iter()
                .skip(1)
                .flatten()
                .map(|title| title.as_str())
                .collect(),
            comment: comment(&source[..call.get(0).expect("the match").start()]),
        })
        .collect()
}

/// The comment that ends right above.
fn comment(above: &str) -> String {
    let is_comment = |line: &&str| {
        ["//", "/*", "*"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let lines = above.trim_end_matches([' ', '\t']).lines().rev();
    let mut lines: Vec<&str> = lines.map(str::trim).take_while(is_comment).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::named;
    use super::*;

    fn check(source: &str, expected: &[(&str, &str)]) {
        assert_eq!(tests(source), named(expected));
    }

    #[test]
    fn titles_and_comments() {
        check(
            "test('SQ-1: a turn', bounded, async () => {})",
            &[("SQ-1: a turn", "")],
        );
        check(
            "  await test(\n  \"a 'turn'\", () => {})",
            &[("a 'turn'", "")],
        );
        check("test(`a turn`, () => {})", &[("a turn", "")]);
        check(
            "// SQ-1 far\n\n// SQ-2\n// near\ntest('a', () => {})",
            &[("a", "// SQ-2\n// near")],
        );
        check(
            "/** SQ-3 */\ntest('a', () => {})\ntest('b', () => {})",
            &[("a", "/** SQ-3 */"), ("b", "")],
        );
    }

    #[test]
    fn what_does_not_run_is_no_test() {
        check(
            "test.skip('a', () => {})\nlatest('b')\n// test('c')\ntest(name, () => {})",
            &[],
        );
    }
}

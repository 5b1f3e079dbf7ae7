//! Python: functions whose name begins with `test_`, and their docstrings.

use std::sync::LazyLock;

use regex::Regex;

use super::Named;

pub(super) fn tests(source: &str) -> Vec<Named> {
    static HEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^[ \t]*(?:async[ \t]+)?def[ \t]+(test_\w+)[ \t]*\(").expect("a pattern")
    });
    HEAD.captures_iter(source)
        .filter(|head| !is_skipped(&source[..head.get(0).expect("the match").start()]))
        .map(|head| Named {
            name: head[1].to_owned(),
            comment: docstring(&source[head.get(0).expect("the match").end()..]).to_owned(),
        })
        .collect()
}

/// Whether the decorators right above say so.
fn is_skipped(above: &str) -> bool {
    let block = above.trim_end_matches([' ', '\t']);
    let block = block.rfind("\n\n").map_or(block, |blank| &block[blank..]);
    block.contains("mark.skip") || block.contains("mark.xfail")
}

/// The text that a function's body begins with; `rest` begins inside the brackets of its parameters.
fn docstring(rest: &str) -> &str {
    let mut open = 1;
    let close = rest.find(|char| {
        open += match char {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        open == 0
    });
    let body = close.and_then(|close| rest[close..].split_once(":\n"));
    let Some((_, body)) = body else { return "" };
    let body = body.trim_start();
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if let Some(inside) = body.strip_prefix(quote) {
            return inside.split_once(quote).map_or("", |(text, _)| text.trim());
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::super::named;
    use super::*;

    fn check(source: &str, expected: &[(&str, &str)]) {
        assert_eq!(tests(source), named(expected));
    }

    #[test]
    fn functions_and_docstrings() {
        check("def test_a() -> None:\n    pass\n", &[("test_a", "")]);
        check(
            "def test_a():\n    \"\"\"SQ-1: a turn.\"\"\"\n    pass\n",
            &[("test_a", "SQ-1: a turn.")],
        );
        check(
            "async def test_a(x: dict[str, int],\n    y=(1, 2)\n) -> None:\n    'SQ-2'\n",
            &[("test_a", "SQ-2")],
        );
        check(
            "class TestAll:\n    def test_in_a_class(self):\n        '''A\n        B'''\n",
            &[("test_in_a_class", "A\n        B")],
        );
        check(
            "def helper():\n    \"\"\"SQ-1\"\"\"\n# def test_no():\n",
            &[],
        );
        check("def test_a():\n    x = 'SQ-1'\n", &[("test_a", "")]);
    }

    #[test]
    fn skipped_tests_are_none() {
        check(
            "@pytest.mark.skip(reason='x')\ndef test_a():\n    pass\n\n\ndef test_b():\n    pass\n",
            &[("test_b", "")],
        );
        check(
            "@pytest.mark.parametrize('x', [1])\ndef test_a(x):\n    pass\n",
            &[("test_a", "")],
        );
    }
}

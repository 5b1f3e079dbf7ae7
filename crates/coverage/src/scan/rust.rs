//! Rust: functions with a test attribute, and those that a suite's macro lists.

use std::collections::HashSet;

use syn::{Attribute, Expr, Item, ItemFn, Lit, Meta};

use super::Named;

/// Macros that are given names of functions and make tests of them.
const SUITES: [&str; 3] = ["contract", "replicated", "stories"];

pub(super) fn tests(source: &str) -> anyhow::Result<Vec<Named>> {
    let mut reader = Reader::default();
    reader.items(&syn::parse_file(source)?.items);
    let Reader { functions, listed } = reader;
    let is_test = |function: &&Function| function.is_test || listed.contains(&function.named.name);
    let ignored = |function: &&Function| !function.is_ignored;
    let mut tests: Vec<&Function> = functions.iter().filter(is_test).filter(ignored).collect();
    tests.sort_by(|a, b| a.named.name.cmp(&b.named.name));
    tests.dedup_by(|a, b| a.named.name == b.named.name);
    Ok(tests
        .into_iter()
        .map(|test| Named {
            name: test.named.name.clone(),
            comment: test.named.comment.clone(),
        })
        .collect())
}

#[derive(Default)]
struct Reader {
    functions: Vec<Function>,
    /// What suites list.
    listed: HashSet<String>,
}

struct Function {
    named: Named,
    is_test: bool,
    is_ignored: bool,
}

impl Reader {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Fn(function) => self.functions.push(read(function)),
                Item::Mod(module) => {
                    if let Some((_, items)) = &module.content {
                        self.items(items);
                    }
                }
                Item::Macro(call) if SUITES.iter().any(|suite| call.mac.path.is_ident(suite)) => {
                    // Among the names there may be labels of a part of them: no function has such a name.
                    let given = call.mac.tokens.to_string();
                    let words = given.split(|c: char| !c.is_alphanumeric() && c != '_');
                    self.listed.extend(words.map(str::to_owned));
                }
                _ => {}
            }
        }
    }
}

fn read(function: &ItemFn) -> Function {
    let ends_with = |attribute: &Attribute, word: &str| {
        let last = attribute.path().segments.last();
        last.is_some_and(|segment| segment.ident == word)
    };
    let comment: Vec<String> = function.attrs.iter().filter_map(line).collect();
    Function {
        named: Named {
            name: function.sig.ident.to_string(),
            comment: comment.join("\n"),
        },
        is_test: function
            .attrs
            .iter()
            .any(|attribute| ends_with(attribute, "test")),
        is_ignored: function
            .attrs
            .iter()
            .any(|attribute| ends_with(attribute, "ignore")),
    }
}

/// A line of a doc comment.
fn line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    let Expr::Lit(value) = &pair.value else {
        return None;
    };
    match &value.lit {
        Lit::Str(text) if pair.path.is_ident("doc") => Some(text.value().trim().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::named;
    use super::*;

    fn check(source: &str, expected: &[(&str, &str)]) {
        assert_eq!(tests(source).unwrap(), named(expected));
    }

    #[test]
    fn attributes_make_tests() {
        check("#[test] fn sq_1_a() {}", &[("sq_1_a", "")]);
        check(
            "#[tokio::test(flavor = \"multi_thread\")] async fn b() {}",
            &[("b", "")],
        );
        check("mod tests { mod deep { #[test] fn c() {} } }", &[("c", "")]);
        check("fn no_test() {} #[cfg(test)] fn nor_this() {}", &[]);
        check("#[test] #[ignore = \"slow\"] fn skipped() {}", &[]);
        check(
            "const TEXT: &str = \"#[test] fn in_a_text() {}\"; // #[test] fn in_a_comment() {}",
            &[],
        );
    }

    #[test]
    fn doc_comments_come_along_and_others_do_not() {
        let source = "/// runtime SQ-7:\n/// a pause.\n// SQ-8\n#[test]\nfn a() {}";
        check(source, &[("a", "runtime SQ-7:\na pause.")]);
    }

    #[test]
    fn suites_make_tests_of_what_they_list() {
        let source = "contract!(one, two,);\n/// LOG-1\nasync fn one(bed: Bed) {}\nfn two() {}\nfn helper() {}";
        check(source, &[("one", "LOG-1"), ("two", "")]);
        check(
            "stories! { one } async fn one(app: &TestApp) {}",
            &[("one", "")],
        );
        check(
            "contract!(one; on_disks: two); fn one() {} fn two() {} fn three() {}",
            &[("one", ""), ("two", "")],
        );
        check("macro_rules! contract { ($a:ident) => {} } fn a() {}", &[]);
        check("other!(one); fn one() {}", &[]);
    }

    #[test]
    fn a_file_that_is_no_rust_is_an_error() {
        assert!(tests("fn {").is_err());
    }
}

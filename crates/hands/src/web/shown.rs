//! URLs in text, and whether one has been shown before (runtime WB-7, WB-8). Pure.

use std::collections::HashSet;

use url::Url;

/// What ends a URL in running text.
const ENDS: [char; 12] = ['<', '>', '"', '\'', '`', '{', '}', '|', '\\', '^', '[', ']'];

/// What is punctuation of the sentence when it comes last.
const TRAILING: [char; 8] = ['.', ',', ';', ':', '!', '?', '*', '_'];

/// The longest URL that is looked at, in bytes.
const LONGEST: usize = 2048;

/// URLs that a conversation has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown(HashSet<String>);

impl Shown {
    /// Notes the URLs in a text.
    pub fn read(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase();
        let starts = lower.match_indices("http").map(|(start, _)| start);
        for start in starts {
            if !["http://", "https://"]
                .iter()
                .any(|scheme| lower[start..].starts_with(scheme))
            {
                continue;
            }
            let rest = &text[start..];
            let end = rest.find(|c: char| c.is_whitespace() || c.is_control() || ENDS.contains(&c));
            let found = trimmed(&rest[..end.unwrap_or(rest.len())]);
            if found.len() <= LONGEST
                && let Ok(url) = Url::parse(found)
            {
                self.0.insert(name(&url));
            }
        }
    }

    /// Whether this URL is among them, whatever its fragment.
    pub fn contains(&self, url: &Url) -> bool {
        self.0.contains(&name(url))
    }
}

/// Without the sentence's punctuation, and without a closing bracket that was not opened inside.
fn trimmed(mut url: &str) -> &str {
    loop {
        let unopened = url.ends_with(')') && url.matches(')').count() > url.matches('(').count();
        let shorter = url
            .strip_suffix(TRAILING)
            .or_else(|| url.strip_suffix(')').filter(|_| unopened));
        match shorter {
            Some(shorter) => url = shorter,
            None => return url,
        }
    }
}

fn name(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime WB-8
    #[test]
    fn wb_8_urls_are_found_in_running_text() {
        #[track_caller]
        fn check(text: &str, url: &str, found: bool) {
            let mut shown = Shown::default();
            shown.read(text);
            assert_eq!(
                shown.contains(&Url::parse(url).expect("a URL")),
                found,
                "{text}"
            );
        }
        let page = "https://example.com/a?b=1";
        check("see https://example.com/a?b=1.", page, true);
        check("see (https://example.com/a?b=1), please", page, true);
        check("[it](https://example.com/a?b=1)", page, true);
        check("<https://example.com/a?b=1#part>", page, true);
        check("HTTPS://EXAMPLE.com/a?b=1", page, true);
        check("{\"url\":\"https://example.com/a?b=1\"}", page, true);
        check("über https://example.com/a?b=1\u{a0}x", page, true);
        check(
            "https://en.example.org/wiki/Rust_(language)",
            "https://en.example.org/wiki/Rust_(language)",
            true,
        );
        check("https://example.com/a?b=12", page, false);
        check("https://example.com/a", page, false);
        check("xhttp://, https://", page, false);
        check("http https://example.com", "https://example.com/", true);
        check("http://example.com", "https://example.com/", false);
    }
}

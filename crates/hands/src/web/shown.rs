//! URLs in text, and whether one has been shown before (runtime WB-7, WB-8). Pure.

use std::collections::HashSet;

use url::Url;

/// What ends a URL in running text.
const ENDS: [char; 12] = ['<', '>', '"', '\'', '`', '{', '}', '|', '\\', '^', '[', ']'];

/// What is punctuation of the sentence when it comes last.
const TRAILING: [char; 8] = ['.', ',', ';', ':', '!', '?', '*', '_'];

/// The longest URL that is looked at, in bytes.
const LONGEST: usize = 2048;

/// How many characters of punctuation may follow one, and how many URLs of a text are looked at: both bound the time that a
/// text takes (security INP-6).
const BEHIND: usize = 64;
const MOST: usize = 10_000;

/// URLs that a conversation has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown(HashSet<String>);

impl Shown {
    /// Notes the URLs in a text.
    pub fn read(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase();
        let begins = |start: &usize| {
            let rest = &lower[*start..];
            rest.starts_with("http://") || rest.starts_with("https://")
        };
        let starts = lower.match_indices("http").map(|(start, _)| start);
        for start in starts.filter(begins).take(MOST) {
            let rest = &text[start..];
            let ends = |c: char| c.is_whitespace() || c.is_control() || ENDS.contains(&c);
            let near = &rest[..rest.floor_char_boundary(LONGEST + BEHIND)];
            let found = match near.find(ends) {
                Some(end) => trimmed(&near[..end]),
                None if near.len() == rest.len() => trimmed(near),
                None => continue,
            };
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
    let opened = url.matches('(').count();
    let mut closed = url.matches(')').count();
    loop {
        if let Some(shorter) = url.strip_suffix(TRAILING) {
            url = shorter;
        } else if let Some(shorter) = url.strip_suffix(')').filter(|_| closed > opened) {
            closed -= 1;
            url = shorter;
        } else {
            return url;
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
        check(
            "(https://example.com/a_(b)).)",
            "https://example.com/a_(b)",
            true,
        );
    }

    /// security INP-6: however a text is made, it is read in a time that its length bounds.
    #[test]
    fn inp_6_a_text_is_read_in_linear_time() {
        let begun = std::time::Instant::now();
        let mut shown = Shown::default();
        shown.read(&"http://".repeat(1 << 17));
        shown.read(&format!("http://a{}", ")".repeat(1 << 20)));
        assert!(shown.0.len() <= MOST);
        // Without the bounds it takes days.
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    }
}

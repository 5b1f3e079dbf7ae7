//! Pages as a model can read them: HTML → Markdown of what the page is about. Blocking; bounded by its input's size and depth.

use std::collections::HashMap;

use dom_smoothie::{Config, Readability, TextMode};
use url::Url;

/// Elements of a page at most.
const ELEMENTS: usize = 50_000;

/// Elements, texts and comments of a page at most.
const NODES: usize = 4 * ELEMENTS;

/// Elements inside each other at most: what walks a page does so by calling itself.
const DEPTH: usize = 500;

/// What is said of a page beyond these limits.
const UNWIELDY: &str = "the page is too large or too deeply nested to be read";

/// Elements that end themselves, or that the next of their kind ends: they do not add up.
const FLAT: [&str; 30] = [
    "area", "base", "body", "br", "col", "dd", "dt", "embed", "head", "hr", "html", "img", "input",
    "li", "link", "meta", "optgroup", "option", "p", "param", "source", "tbody", "td", "tfoot",
    "th", "thead", "tr", "track", "wbr", "!doctype",
];

/// Elements whose content is text up to their end tag.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// A page as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// Its title, if it has one.
    pub(super) title: Option<String>,
    /// Markdown.
    pub(super) text: String,
}

/// What a page is about; the whole of it, where no part stands out.
///
/// # Errors
/// A text for the model: the page is too large or too deep to be read.
pub(super) fn read(html: &str, url: &Url) -> Result<Page, &'static str> {
    // A parser looks through all open elements at each new one, so depth is looked at before it runs.
    if open_elements(html) > DEPTH {
        return Err(UNWIELDY);
    }
    let document = dom_query::Document::from(html);
    if is_unwieldy(&document) {
        return Err(UNWIELDY);
    }
    let plain = document.clone();
    let config = Config {
        max_elements_to_parse: ELEMENTS,
        text_mode: TextMode::Markdown,
        ..Config::default()
    };
    let article = Readability::with_document(document, Some(url.as_str()), Some(config))
        .and_then(|mut readability| readability.parse());
    let (title, text) = match article {
        Ok(article) => (article.title, article.text_content.to_string()),
        // It has no main part: a list of links, a short notice.
        Err(_) => {
            let title = plain.select("title").text().to_string();
            plain.select("script, style, noscript, template").remove();
            (title, plain.md(None).to_string())
        }
    };
    let title = title.trim();
    Ok(Page {
        title: (!title.is_empty()).then(|| title.to_owned()),
        text: text.trim().to_owned(),
    })
}

/// About how many elements are open at once at most, told from the tags alone. An end tag ends one of its name.
fn open_elements(html: &str) -> usize {
    let html = html.to_ascii_lowercase();
    let mut open: HashMap<&str, usize> = HashMap::new();
    let (mut total, mut most) = (0_usize, 0);
    let mut rest = html.as_str();
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        let (ends, tag) = match rest.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let end = tag.find(|c: char| c.is_whitespace() || c == '>' || c == '/');
        let name = &tag[..end.unwrap_or(tag.len())];
        if name.is_empty() || FLAT.contains(&name) {
            continue;
        }
        if RAW.contains(&name) && !ends {
            rest = tag
                .find(&format!("</{name}"))
                .map_or("", |end| &tag[end + 2..]);
            continue;
        }
        let of_name = open.entry(name).or_default();
        if !ends {
            *of_name += 1;
            total += 1;
            most = most.max(total);
        } else if *of_name > 0 {
            *of_name -= 1;
            total -= 1;
        }
    }
    most
}

fn is_unwieldy(document: &dom_query::Document) -> bool {
    let mut open = vec![(document.root(), 0)];
    let mut seen = 0;
    while let Some((node, depth)) = open.pop() {
        seen += 1;
        if depth > DEPTH || seen > NODES {
            return true;
        }
        open.extend(node.children_it(false).map(|child| (child, depth + 1)));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(html: &str) -> Result<Page, &'static str> {
        read(
            html,
            &Url::parse("https://example.com/docs/").expect("a URL"),
        )
    }

    #[test]
    fn wb_1_a_page_comes_as_markdown_of_its_main_part() {
        let body = "A sentence that says something about sandboxes, at some length. ".repeat(20);
        let html = format!(
            "<html><head><title>Hands</title><script>alert(1)</script></head><body><nav><a href=/x>Menu</a></nav>\
             <article><h1>Hands</h1><h2>Why</h2><p>{body}</p><p>See <a href=\"more\">more</a> and <code>x</code>.</p></article></body></html>"
        );
        let page = page(&html).expect("readable");
        assert_eq!(page.title.as_deref(), Some("Hands"));
        assert!(page.text.contains("## Why"), "{}", page.text);
        assert!(
            page.text.contains("https://example.com/docs/more"),
            "{}",
            page.text
        );
        assert!(!page.text.contains("alert"), "{}", page.text);
        assert!(!page.text.contains("Menu"), "{}", page.text);
    }

    #[test]
    fn wb_1_a_page_without_a_main_part_is_read_whole() {
        let page =
            page("<title>T</title><style>p{}</style><p>Hi <b>there</b></p><script>x</script>")
                .expect("readable");
        assert_eq!(page.title.as_deref(), Some("T"));
        assert!(
            page.text.contains("there") && !page.text.contains("p{}") && !page.text.contains('x'),
            "{}",
            page.text
        );
        assert_eq!(
            super::read("", &Url::parse("https://example.com").expect("a URL"))
                .expect("nothing")
                .text,
            ""
        );
    }

    /// security INP-1
    #[test]
    fn inp_1_deep_pages_are_refused_before_they_are_walked() {
        let deep = "<div>".repeat(200_000);
        assert!(page(&deep).is_err());
        for trick in [
            "<b>x",
            "<b></i>",
            "<B><script></b></script>",
            "<b><!-- </b> -->",
            "<b/>",
        ] {
            assert!(page(&trick.repeat(200_000)).is_err(), "{trick}");
        }
        let wide = "<p>x</p>".repeat(150_000);
        assert!(page(&wide).is_err());
        let long_list =
            "<ul>".to_owned() + &"<li>x<br>".repeat(5_000) + "</ul><script>'<b>'+'<b>'</script>";
        assert!(page(&long_list).is_ok());
    }
}

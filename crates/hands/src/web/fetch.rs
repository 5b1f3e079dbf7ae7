//! What a fetched page becomes for the model (runtime TL-4, WB-2, WB-6). Deciding is pure; the gate does the fetching.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manyhands_egress::outbound::{Fetched, Refusal};
use manyhands_protocol::web::WebSettings;
use url::Url;

use super::readable;
use crate::provider::{Block, Output, Source};

/// The longest URL that is fetched, in bytes.
const LONGEST: usize = 2048;

/// The most bytes of a text that are read.
const TEXT: usize = 5 << 20;

/// The largest picture, in bytes.
const IMAGE: usize = 5 << 20;

/// The largest PDF, and so the most that is fetched at all, in bytes.
pub(super) const MOST: usize = 20 << 20;

/// Characters that count as one token where a text is cut to `max_content_tokens`.
const CHARACTERS: u64 = 4;

/// A URL that may be fetched at all.
///
/// # Errors
/// A text for the model.
pub(super) fn parse(given: &str) -> Result<Url, String> {
    let invalid = |why: &str| format!("invalid_url: {why}");
    if given.len() > LONGEST {
        return Err(format!("url_too_long: at most {LONGEST} bytes are allowed"));
    }
    let mut url = Url::parse(given).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("only http and https are fetched"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("a user and a password do not belong into a URL"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// What the model reads of a page that the gate did not fetch.
pub(super) fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotAdmitted { host } => {
            format!("url_not_allowed: {host} is not among the hosts that this agent may fetch from")
        }
        Refusal::Host { .. } | Refusal::Port { .. } | Refusal::Address { .. } | Refusal::Scheme => {
            format!("url_not_allowed: {refusal}")
        }
        Refusal::TooLarge { .. } => format!("content_too_large: {refusal}"),
        Refusal::Status { .. }
        | Refusal::Redirects
        | Refusal::Unreachable { .. }
        | Refusal::Time => {
            format!("url_not_accessible: {refusal}")
        }
    }
}

/// The tool's output. Blocking: a page takes a while to read.
pub(super) fn output(page: &Fetched, settings: &WebSettings) -> Output {
    let binary = |block: fn(Source) -> Block, media_type: &str| {
        let data = STANDARD.encode(&page.body);
        let media_type = media_type.to_owned();
        let source = block(Source::Base64 { media_type, data });
        let text = format!(
            "{} ({media_type}, {} bytes)",
            page.url,
            page.body.len(),
            media_type = page.media_type
        );
        Output {
            content: vec![Block::Text { text }, source],
            is_error: false,
        }
    };
    match kind(&page.media_type) {
        Kind::Image if page.body.len() > IMAGE => too_large("a picture", IMAGE),
        Kind::Image => binary(|source| Block::Image { source }, &page.media_type),
        Kind::Pdf if !page.body.starts_with(b"%PDF-") => {
            Output::error("unsupported_content_type: the answer calls itself a PDF and is none")
        }
        Kind::Pdf => binary(|source| Block::Document { source }, "application/pdf"),
        Kind::Other => Output::error(format!(
            "unsupported_content_type: {:?} can be neither read nor shown",
            page.media_type
        )),
        Kind::Html | Kind::Text if page.body.len() > TEXT => too_large("a text", TEXT),
        Kind::Html => match readable::read(&text(page), &page.url) {
            Ok(read) => {
                let title = read.title.map(|title| format!("# {title}\n\n"));
                whole(page, title.unwrap_or_default() + &read.text, settings)
            }
            Err(problem) => Output::error(format!("content_too_large: {problem}")),
        },
        Kind::Text => whole(page, text(page), settings),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Html,
    Text,
    Image,
    Pdf,
    Other,
}

fn kind(media_type: &str) -> Kind {
    match media_type {
        "text/html" | "application/xhtml+xml" => Kind::Html,
        "image/png" | "image/jpeg" | "image/gif" | "image/webp" => Kind::Image,
        "application/pdf" => Kind::Pdf,
        "application/json"
        | "application/xml"
        | "application/javascript"
        | "application/yaml"
        | "application/x-yaml"
        | "application/toml" => Kind::Text,
        other
            if other.starts_with("text/")
                || other.ends_with("+json")
                || other.ends_with("+xml") =>
        {
            Kind::Text
        }
        _ => Kind::Other,
    }
}

/// The body as text: by its declared set of characters, UTF-8 without one.
fn text(page: &Fetched) -> String {
    let declared = page
        .charset
        .as_deref()
        .and_then(|name| encoding_rs::Encoding::for_label(name.as_bytes()));
    let encoding = declared.unwrap_or(encoding_rs::UTF_8);
    encoding.decode(&page.body).0.into_owned()
}

/// The text under its address, cut where the agent's settings say so.
fn whole(page: &Fetched, text: String, settings: &WebSettings) -> Output {
    let most = settings
        .max_content_tokens
        .map(|tokens| tokens.saturating_mul(CHARACTERS));
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let cut = text.char_indices().nth(most).map(|(end, _)| end);
    let shown = cut.map_or(text.as_str(), |end| &text[..end]);
    let end = if cut.is_some() {
        "\n\n[content truncated at this agent's limit]"
    } else {
        ""
    };
    let shown = if shown.is_empty() {
        "(the page has no text)"
    } else {
        shown
    };
    Output::text(format!("{}\n\n{shown}{end}", page.url))
}

fn too_large(what: &str, most: usize) -> Output {
    Output::error(format!(
        "content_too_large: {what} may have {} MiB",
        most >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(media_type: &str, body: &[u8]) -> Fetched {
        Fetched {
            url: Url::parse("https://example.com/x").expect("a URL"),
            media_type: media_type.to_owned(),
            charset: None,
            body: body.to_vec(),
        }
    }

    fn said(output: &Output) -> String {
        let Some(Block::Text { text }) = output.content.first() else {
            panic!("{output:?}")
        };
        text.clone()
    }

    #[test]
    fn net_9_only_http_urls_without_credentials_are_fetched() {
        #[track_caller]
        fn check(given: &str, expected: Result<&str, &str>) {
            match (parse(given), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (result, _) => panic!("{given}: {result:?}"),
            }
        }
        check("https://example.com/a#b", Ok("https://example.com/a"));
        check("ftp://example.com", Err("only http and https"));
        check("file:///etc/passwd", Err("only http and https"));
        check("example.com", Err("invalid_url"));
        check("https://me:x@example.com", Err("do not belong"));
        check(
            &format!("https://example.com/{}", "a".repeat(2048)),
            Err("url_too_long"),
        );
    }

    /// runtime TL-4
    #[test]
    fn tl_4_each_type_becomes_its_block() {
        let none = WebSettings::default();
        let text = output(&page("text/plain", "grüß".as_bytes()), &none);
        assert_eq!(said(&text), "https://example.com/x\n\ngrüß");
        let latin = Fetched {
            charset: Some("iso-8859-1".to_owned()),
            ..page("text/plain", b"gr\xfc\xdf")
        };
        assert!(said(&output(&latin, &none)).ends_with("grüß"));
        let json = output(&page("application/problem+json", b"{}"), &none);
        assert!(!json.is_error && said(&json).ends_with("{}"));
        let html = output(&page("text/html", b"<title>T</title><p>Hi"), &none);
        assert!(said(&html).contains("# T\n\nHi"), "{html:?}");
        let image = output(&page("image/png", b"png"), &none);
        assert!(
            matches!(&image.content[1], Block::Image { source: Source::Base64 { media_type, data } } if media_type == "image/png" && data == "cG5n")
        );
        let pdf = output(&page("application/pdf", b"%PDF-1.7"), &none);
        assert!(matches!(&pdf.content[1], Block::Document { .. }), "{pdf:?}");
        for (media_type, body, problem) in [
            (
                "application/pdf",
                b"MZ".as_slice(),
                "unsupported_content_type",
            ),
            ("application/zip", b"PK", "unsupported_content_type"),
            (
                "image/png",
                &[0; IMAGE + 1],
                "content_too_large: a picture may have 5 MiB",
            ),
            (
                "text/css",
                &[b'x'; TEXT + 1],
                "content_too_large: a text may have 5 MiB",
            ),
        ] {
            let output = output(&page(media_type, body), &none);
            assert!(
                output.is_error && said(&output).contains(problem),
                "{output:?}"
            );
        }
        assert!(said(&output(&page("text/plain", b""), &none)).contains("no text"));
    }

    /// runtime WB-2
    #[test]
    fn wb_2_texts_are_cut_at_the_agents_limit_and_pdfs_are_not() {
        let settings = WebSettings {
            max_content_tokens: Some(2),
            ..WebSettings::default()
        };
        let text = output(&page("text/plain", "äbcdefghij".as_bytes()), &settings);
        assert_eq!(
            said(&text),
            "https://example.com/x\n\näbcdefgh\n\n[content truncated at this agent's limit]"
        );
        let fits = output(&page("text/plain", b"abcdefgh"), &settings);
        assert!(!said(&fits).contains("truncated"));
        let pdf = output(
            &page("application/pdf", b"%PDF-1.7 and much more"),
            &settings,
        );
        assert!(
            matches!(&pdf.content[1], Block::Document { source: Source::Base64 { data, .. } } if data.len() == 32)
        );
    }
}

//! `read`: a text file or part of it, a picture, a PDF (runtime TL-14).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Place, Read, file};
use crate::output::{Block, Output, Source};

/// The most text that one call returns, in bytes.
const TEXT_LIMIT: u64 = 256 * 1024;
/// The largest picture: 5 MiB once it is in base64, which is what models count.
const IMAGE_LIMIT: u64 = 5 * 1024 * 1024 / 4 * 3;
/// The largest PDF, in bytes.
const PDF_LIMIT: u64 = 20 * 1024 * 1024;

pub(super) fn run(input: &Read, place: &Place) -> Result<Output, String> {
    let given = &input.file_path;
    let fail = |error: io::Error| file::error("read", given, &error);
    let range = match input.view_range.as_deref() {
        None | Some([]) => None,
        Some(&[first, last]) => Some((first, last)),
        Some(_) => return Err("read: view_range must be [start_line, end_line]".to_owned()),
    };
    let path = place.path(given);
    let (file, size) = file::open_regular(&path).map_err(fail)?;
    if let Some(media) = media_type(given) {
        if range.is_some() {
            return Err("read: view_range is not supported for image/PDF files".to_owned());
        }
        return binary(file, size, media, given);
    }
    let bytes = match range {
        Some((first, last)) => lines(BufReader::new(file), first, last).map_err(fail)?,
        None => take(file, TEXT_LIMIT).map_err(fail)?,
    };
    let bytes = match (bytes, range) {
        (Some(bytes), _) => bytes,
        (None, None) => {
            return Err(format!(
                "read: {given} is {size} bytes, exceeds {TEXT_LIMIT}-byte limit. \
                 Use view_range to read part of it, e.g. view_range: [1, 500]."
            ));
        }
        (None, Some(_)) => {
            return Err(format!(
                "read: the selected lines of {given} exceed the {TEXT_LIMIT}-byte limit. Use a smaller view_range."
            ));
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| {
        format!(
            "read: {given}: not valid UTF-8 text (of binary files only images and PDFs can be read)"
        )
    })?;
    Ok(Output::text(text))
}

fn media_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "gif" => Some("image/gif"),
        "webp" => Some("image/webp"),
        "pdf" => Some("application/pdf"),
        _ => None,
    }
}

fn binary(file: File, size: u64, media: &str, given: &str) -> Result<Output, String> {
    let pdf = media == "application/pdf";
    let limit = if pdf { PDF_LIMIT } else { IMAGE_LIMIT };
    let bytes = take(file, limit)
        .map_err(|error| file::error("read", given, &error))?
        .ok_or_else(|| {
            format!(
                "read: {given} is {size} bytes, exceeds {limit}-byte limit for image/PDF files."
            )
        })?;
    let source = Source::Base64 {
        media_type: media.to_owned(),
        data: STANDARD.encode(bytes),
    };
    Ok(Output::block(if pdf {
        Block::Document { source }
    } else {
        Block::Image { source }
    }))
}

/// The whole file, or `None` when it holds more than `limit`, whatever size it claims.
fn take(file: File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Lines `first` to `last`, counted from 1, both included; `last` of 0 or less means to the end. `None` when they
/// hold more than the limit. Lines outside the range are passed over without being kept.
fn lines(mut from: impl BufRead, first: i64, last: i64) -> io::Result<Option<Vec<u8>>> {
    let first = first.max(1);
    let last = if last > 0 { last } else { i64::MAX };
    let (mut line, mut kept) = (1, Vec::new());
    while line <= last {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Some(kept));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |newline| newline + 1);
        if line >= first {
            kept.extend_from_slice(&buffer[..length]);
            if kept.len() as u64 > TEXT_LIMIT {
                return Ok(None);
            }
        }
        from.consume(length);
        line += i64::from(end.is_some());
    }
    // The newline after the last line asked for belongs to no line.
    if kept.last() == Some(&b'\n') {
        kept.pop();
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tl_14_ranges() {
        #[track_caller]
        fn check(text: &str, first: i64, last: i64, expected: &str) {
            // A buffer of two bytes, so that lines cross its edge.
            let reader = BufReader::with_capacity(2, text.as_bytes());
            let found = lines(reader, first, last).unwrap().unwrap();
            assert_eq!(
                String::from_utf8(found).unwrap(),
                expected,
                "{first}..={last}"
            );
        }
        let text = "one\ntwo\nthree\n";
        check(text, 1, 1, "one");
        check(text, 2, 3, "two\nthree");
        check(text, 2, -1, "two\nthree\n");
        check(text, 2, 0, "two\nthree\n");
        check(text, 1, 99, text);
        check(text, 0, 2, "one\ntwo");
        check(text, -5, 1, "one");
        check(text, 9, 12, "");
        check(text, 3, 2, "");
        check("no newline", 1, 1, "no newline");
        check("", 1, 1, "");
    }
}

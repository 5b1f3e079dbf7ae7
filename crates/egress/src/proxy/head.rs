//! The head of a request, read in the one way that every reader shares (security NET-5, INP-1). Pure.
//!
//! Nothing is repaired: a bare CR or LF, a folded line, a space before a colon, a second length, an odd encoding end the
//! connection.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

/// The longest head, in bytes, the request line and the empty line included.
pub(crate) const LONGEST: usize = 64 << 10;
/// The longest line of a head, in bytes: a URL, a header.
const LINE: usize = 16 << 10;
/// The most headers.
const MOST: usize = 128;

/// A request line with its headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// As it was sent: absolute, origin, authority or asterisk form.
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
}

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// By its last chunk.
    Chunked,
}

/// What is wrong with a head or a body: told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Looks for the end of a head. `seen` is how many bytes earlier calls have looked at, and is brought up to date.
///
/// # Errors
/// A byte that no head has: without waiting for the head's end, which may never come.
pub(crate) fn find_end(buffer: &[u8], seen: &mut usize) -> Result<Option<usize>> {
    while let Some(&byte) = buffer.get(*seen) {
        let at = *seen;
        // First of all, so that what speaks another protocol is sent away at its first bytes.
        if at < 8 && byte != b' ' && !is_token(byte) && !buffer[..at].contains(&b' ') {
            return Err(Malformed("this is no HTTP request"));
        }
        match byte {
            b'\n' if at == 0 || buffer[at - 1] != b'\r' => {
                return Err(Malformed("a line ends with a bare LF"));
            }
            _ if byte != b'\n' && at > 0 && buffer[at - 1] == b'\r' => {
                return Err(Malformed("a bare CR"));
            }
            b'\r' | b'\n' | b'\t' => {}
            0..0x20 | 0x7f => return Err(Malformed("a control character")),
            _ => {}
        }
        *seen += 1;
        if buffer[..*seen].ends_with(b"\r\n\r\n") {
            return Ok(Some(*seen));
        }
    }
    if buffer.len() >= LONGEST {
        return Err(Malformed("the head is longer than 64 KiB"));
    }
    Ok(None)
}

/// Reads a whole head, its empty line included.
///
/// # Errors
/// See the module.
pub(crate) fn read(bytes: &[u8]) -> Result<Head> {
    let end = find_end(bytes, &mut 0)?;
    if end != Some(bytes.len()) || bytes.len() > LONGEST {
        return Err(Malformed("the head does not end where it should"));
    }
    let mut lines = bytes[..bytes.len() - 4].split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target, version) = read_request_line(without_cr(first))?;
    let headers = read_headers(lines.map(without_cr))?;
    let framing = read_framing(&headers, version)?;
    Ok(Head {
        method,
        target,
        version,
        headers,
        framing,
    })
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn read_request_line(line: &[u8]) -> Result<(Method, String, Version)> {
    if line.len() > LINE {
        return Err(Malformed("the URL is longer than 16 KiB"));
    }
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(Malformed("the request line has not three parts"));
    };
    if method.is_empty() || method.len() > 32 || !method.iter().copied().all(is_token) {
        return Err(Malformed("the method is no token"));
    }
    let method = Method::from_bytes(method).map_err(|_| Malformed("the method is no token"))?;
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed("the target has other than printable ASCII"));
    }
    let target = String::from_utf8_lossy(target).into_owned();
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return Err(Malformed("the version is not HTTP/1.1 or HTTP/1.0")),
    };
    Ok((method, target, version))
}

/// Reads lines of headers, of a head or of trailers.
///
/// # Errors
/// See the module.
pub(crate) fn read_headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        if line.len() > LINE {
            return Err(Malformed("a header is longer than 16 KiB"));
        }
        if headers.len() == MOST {
            return Err(Malformed("more than 128 headers"));
        }
        let (name, value) = read_header(line)?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn read_header(line: &[u8]) -> Result<(HeaderName, HeaderValue)> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Malformed("a header is folded over lines"));
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(Malformed("a header has no colon"));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Malformed("a header's name is no token"));
    }
    let name =
        HeaderName::from_bytes(name).map_err(|_| Malformed("a header's name is no token"))?;
    let value = HeaderValue::from_bytes(value.trim_ascii())
        .map_err(|_| Malformed("a header's value has a control character"))?;
    Ok((name, value))
}

fn read_framing(headers: &HeaderMap, version: Version) -> Result<Framing> {
    let one = |name: HeaderName, more: &'static str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Malformed(more)),
            (value, None) => Ok(value.map(HeaderValue::as_bytes)),
        }
    };
    let length = one(header::CONTENT_LENGTH, "more than one Content-Length")?;
    let encoding = one(header::TRANSFER_ENCODING, "more than one Transfer-Encoding")?;
    match (length, encoding) {
        (Some(_), Some(_)) => Err(Malformed("both Content-Length and Transfer-Encoding")),
        (None, Some(_)) if version == Version::HTTP_10 => {
            Err(Malformed("Transfer-Encoding in HTTP/1.0"))
        }
        (None, Some(b"chunked")) => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Malformed("a Transfer-Encoding other than chunked")),
        (Some(digits), None) => read_length(digits).map(Framing::Length),
        (None, None) => Ok(Framing::Empty),
    }
}

fn read_length(digits: &[u8]) -> Result<u64> {
    let wrong = Malformed("the Content-Length is no plain number");
    let plain = !digits.is_empty()
        && digits.len() <= 18
        && digits.iter().all(u8::is_ascii_digit)
        && (digits == b"0" || !digits.starts_with(b"0"));
    let text = plain.then(|| std::str::from_utf8(digits).ok()).flatten();
    text.and_then(|text| text.parse().ok()).ok_or(wrong)
}

/// Reads the line that says a chunk's size: hex digits and nothing else.
///
/// # Errors
/// See the module.
pub(crate) fn read_chunk_size(line: &[u8]) -> Result<u64> {
    let wrong = Malformed("a chunk's size is no plain hex number");
    let plain = !line.is_empty() && line.len() <= 15 && line.iter().all(u8::is_ascii_hexdigit);
    let text = plain.then(|| std::str::from_utf8(line).ok()).flatten();
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(wrong)
}

/// What names of methods and headers are made of.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hold;

#[cfg(test)]
mod tests;

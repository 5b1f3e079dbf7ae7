//! Secrets that come back are taken out of answers (security CRED-6). Pure, and a second line only: the first one is that a
//! secret goes to hosts of its own.
//!
//! A secret is looked for plain, in base64 of both alphabets wherever in a text it was encoded, in hex and percent-encoded,
//! also as JSON escapes it and with the lines of base64 wrapped, over any split of the answer. What is found is overwritten by
//! as many asterisks, so that lengths stay true. Bytes are held back only while they could be the beginning of something. A
//! text that is whole and has no length to keep can have a mark of the caller's there instead.

mod escapes;
mod forms;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use secrecy::SecretString;

use forms::{Bits, Form, Forms};

/// What a secret is overwritten by.
const MASK: u8 = b'*';

/// What is looked for. Cheap to clone.
#[derive(Clone)]
pub struct Scrubber(Arc<Forms>);

impl Scrubber {
    /// For these secrets; `None` when there are none.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Option<Self> {
        let forms = Forms::of(secrets.into_iter());
        (!forms.all.is_empty()).then(|| Self(Arc::new(forms)))
    }

    /// The text with `mark` in the place of each secret; `None` when there was none.
    pub fn marked(&self, text: &str, mark: &str) -> Option<String> {
        let mut found: Vec<Range<usize>> = Vec::new();
        self.stream().search(text.as_bytes(), &mut |mut range| {
            // What ends later may have begun before others.
            while let Some(last) = found.pop_if(|last| last.end > range.start) {
                range.start = range.start.min(last.start);
            }
            found.push(range);
        });
        if found.is_empty() {
            return None;
        }
        let mut marked = String::with_capacity(text.len());
        let mut rest = 0;
        for range in found {
            marked.push_str(&String::from_utf8_lossy(
                &text.as_bytes()[rest..range.start],
            ));
            marked.push_str(mark);
            rest = range.end;
        }
        marked.push_str(&String::from_utf8_lossy(&text.as_bytes()[rest..]));
        Some(marked)
    }

    /// A body's stream.
    pub(crate) fn stream(&self) -> Stream {
        Stream::new(self.0.clone())
    }

    /// Cleans the headers of an answer, those that say where it ends excepted, which are made anew.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        let named: Vec<_> = headers
            .keys()
            .filter(|name| self.clean(name.as_str().as_bytes()).is_some())
            .cloned()
            .collect();
        for name in named {
            headers.remove(name);
        }
        for (name, value) in headers.iter_mut() {
            if *name == header::CONTENT_LENGTH {
                continue;
            }
            if let Some(clean) = self.clean(value.as_bytes()) {
                // Asterisks are fine in any value.
                *value = HeaderValue::from_bytes(&clean)
                    .unwrap_or_else(|_| HeaderValue::from_static("*"));
            }
        }
    }

    /// The bytes without secrets; `None` when there was none.
    fn clean(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut stream = self.stream();
        let mut clean = stream.push(bytes);
        clean.extend(stream.finish());
        (clean != bytes).then_some(clean)
    }
}

/// Text from outside without these secrets, in any of the forms that are looked for.
pub fn scrubbed<'a>(bytes: &[u8], secrets: impl IntoIterator<Item = &'a SecretString>) -> Vec<u8> {
    let clean = Scrubber::new(secrets).and_then(|scrubber| scrubber.clean(bytes));
    clean.unwrap_or_else(|| bytes.to_vec())
}

/// A body on its way through.
pub(crate) struct Stream {
    forms: Arc<Forms>,
    /// How far the forms had come after each of the last bytes, the newest at `now`. Escapes are read back to where they began.
    seen: [Bits; KEPT],
    now: usize,
    /// How many bytes were passed on.
    passed: usize,
    /// Not yet passed on.
    held: Vec<u8>,
}

/// The states that an escape looks back to, and the newest.
const KEPT: usize = escapes::LONGEST + 1;

impl Stream {
    fn new(forms: Arc<Forms>) -> Self {
        Self {
            seen: std::array::from_fn(|_| forms.nothing()),
            now: 0,
            passed: 0,
            held: Vec::new(),
            forms,
        }
    }

    /// How many bytes are searched in a moment: the fewer, the longer the secrets are.
    pub(crate) fn stride(&self) -> usize {
        ((1 << 20) / self.forms.words().max(1)).clamp(256, 64 << 10)
    }

    /// Takes more of the body and gives what can be passed on.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.search(bytes, &mut |_| {})
    }

    /// As [`Self::push`]; says where in the whole body secrets are, in the order in which they end.
    fn search(&mut self, bytes: &[u8], found: &mut dyn FnMut(Range<usize>)) -> Vec<u8> {
        let mut ready = Vec::with_capacity(self.held.len() + bytes.len());
        let mut rest = bytes;
        loop {
            if self.held.is_empty() {
                // Nothing has begun: up to the next byte with which something could.
                let mut places = 0..rest.len();
                let calm = places.find(|at| self.forms.may_begin(&rest[*at..]));
                let calm = calm.unwrap_or(rest.len());
                ready.extend_from_slice(&rest[..calm]);
                rest = &rest[calm..];
                self.passed += calm;
            }
            let Some((&byte, behind)) = rest.split_first() else {
                return ready;
            };
            rest = behind;
            self.take(byte, found);
            // In an escape that is not whole the forms stand where they stood before it.
            let begun = escapes::begun(&self.held);
            let mut open = (0..=begun).map(|count| &self.seen[(self.now + KEPT - count) % KEPT]);
            let keep = match open.any(|bits| bits.iter().any(|word| *word != 0)) {
                // No longer than any form can be, with each byte escaped and lines broken.
                true => 8 * self.forms.longest + 64,
                false => begun,
            };
            let free = self.held.len().saturating_sub(keep);
            ready.extend(self.held.drain(..free));
            self.passed += free;
            if self.held.is_empty() {
                self.seen.iter_mut().for_each(|bits| bits.fill(0));
            }
        }
    }

    /// The end of the body: what was held back.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn take(&mut self, byte: u8, found: &mut dyn FnMut(Range<usize>)) {
        self.held.push(byte);
        let ago = |count: usize| (self.now + KEPT - (count - 1)) % KEPT;
        let mut after = std::mem::take(&mut self.seen[(self.now + 1) % KEPT]);
        after.fill(0);
        self.forms.step(&self.seen[ago(1)], byte, &mut after);
        if matches!(byte, b'\r' | b'\n') {
            self.forms.wrap(&self.seen[ago(1)], &mut after);
        }
        for escape in escapes::ending(&self.held) {
            let before = &self.seen[ago(escape.length)];
            let mut room = [0; 4];
            match escape.letter.bytes(&mut room) {
                [byte] => {
                    self.forms.step(before, *byte, &mut after);
                    if matches!(byte, b'\r' | b'\n') {
                        self.forms.wrap(before, &mut after);
                    }
                }
                bytes => {
                    let mut bits = before.clone();
                    for byte in bytes {
                        let before = std::mem::replace(&mut bits, self.forms.nothing());
                        self.forms.step(&before, *byte, &mut bits);
                    }
                    after
                        .iter_mut()
                        .zip(bits)
                        .for_each(|(after, bits)| *after |= bits);
                }
            }
        }
        let forms = self.forms.clone();
        for form in forms.whole(&after) {
            let begin = begin_of(form, &self.held);
            self.held[begin..].fill(MASK);
            found(self.passed + begin..self.passed + self.held.len());
        }
        self.now = (self.now + 1) % KEPT;
        self.seen[self.now] = after;
    }
}

/// Where a form that ends with these bytes begins, in the reading that is longest.
fn begin_of(form: &Form, held: &[u8]) -> usize {
    // Where the form's rest from each place on may begin.
    let mut begins: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); form.bytes.len() + 1];
    begins[form.bytes.len()].insert(held.len());
    for place in (1..=form.bytes.len()).rev() {
        let mut waiting: Vec<usize> = begins[place].iter().copied().collect();
        while let Some(end) = waiting.pop() {
            let mut add = |length: usize, bytes: &[u8]| {
                if let Some(before) = place.checked_sub(bytes.len())
                    && form.bytes[before..place] == *bytes
                {
                    begins[before].insert(end - length);
                }
                let newline = matches!(bytes, b"\r" | b"\n");
                if newline && form.may_wrap(place) && begins[place].insert(end - length) {
                    waiting.push(end - length);
                }
            };
            if let Some(byte) = held[..end].last() {
                add(1, &[*byte]);
            }
            for escape in escapes::ending(&held[..end]) {
                add(escape.length, escape.letter.bytes(&mut [0; 4]));
            }
        }
    }
    // A form whose first bytes were passed on long ago is overwritten from what is left of it.
    begins[0].first().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;

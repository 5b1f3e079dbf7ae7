//! The forms in which a secret is looked for, all of them in one pass: a bit for every place in every form says whether the text
//! has come that far.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// The shortest form of a secret's encodings that is looked for, in bytes: a shorter one is in every text.
const SHORTEST: usize = 4;
/// How much of a form has to have been seen for a line break to be taken for one of wrapped base64, in bytes.
const WRAPPED: usize = 4;

/// What escapes begin with.
const ESCAPES: [u8; 2] = [b'%', b'\\'];

/// A bit for every place in every form.
pub(super) type Bits = Vec<u64>;

/// All forms of some secrets.
pub(super) struct Forms {
    pub(super) all: Vec<Form>,
    /// The longest one, in bytes.
    pub(super) longest: usize,
    /// Whether a form, or an escape, begins with a byte.
    begins: [bool; 256],
    /// Which bytes a form begins with, and then has: a bit for each two.
    pairs: Zeroizing<Bits>,
    /// The first place of each form.
    first: Bits,
    /// The last place of each.
    last: Bits,
    /// Where a line may be wrapped.
    wrapped: Bits,
    /// The places at which each byte stands; none for most bytes.
    places: Vec<Zeroizing<Bits>>,
}

/// One form.
pub(super) struct Form {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Its first bit.
    at: usize,
}

impl Form {
    /// Whether all of it has been seen.
    pub(super) fn is_whole(&self, bits: &Bits) -> bool {
        let last = self.at + self.bytes.len() - 1;
        bits[last / 64] >> (last % 64) & 1 == 1
    }

    /// Whether a line may break before this place of it.
    pub(super) fn may_wrap(&self, place: usize) -> bool {
        place >= WRAPPED
    }
}

impl Forms {
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a SecretString>) -> Self {
        let mut texts = Vec::new();
        for secret in secrets {
            texts.extend(forms(secret.expose_secret().as_bytes()));
        }
        texts.sort_by(|one, other| one[..].cmp(&other[..]));
        texts.dedup_by(|one, other| one[..] == other[..]);
        let mut all = Vec::new();
        let mut at = 0;
        for bytes in texts {
            let length = bytes.len();
            all.push(Form { bytes, at });
            at += length;
        }
        let words = at.div_ceil(64);
        let mut forms = Self {
            longest: all.iter().map(|form| form.bytes.len()).max().unwrap_or(0),
            begins: [false; 256],
            pairs: Zeroizing::new(vec![0; (1 << 16) / 64]),
            first: vec![0; words],
            last: vec![0; words],
            wrapped: vec![0; words],
            places: vec![Zeroizing::new(Vec::new()); 256],
            all,
        };
        let set = |bits: &mut Bits, at: usize| bits[at / 64] |= 1 << (at % 64);
        for form in &forms.all {
            forms.begins[usize::from(form.bytes[0])] = true;
            match form.bytes[..] {
                [one] => (0..=255).for_each(|next| set(&mut forms.pairs, pair(one, next))),
                [one, next, ..] => set(&mut forms.pairs, pair(one, next)),
                [] => {}
            }
            // What comes next may be escaped.
            for escape in ESCAPES {
                set(&mut forms.pairs, pair(form.bytes[0], escape));
            }
            set(&mut forms.first, form.at);
            set(&mut forms.last, form.at + form.bytes.len() - 1);
            for (place, byte) in form.bytes.iter().enumerate() {
                let places = &mut forms.places[usize::from(*byte)];
                places.resize(words, 0);
                set(places, form.at + place);
                if form.may_wrap(place + 1) {
                    set(&mut forms.wrapped, form.at + place);
                }
            }
        }
        for escape in ESCAPES {
            forms.begins[usize::from(escape)] = true;
            (0..=255).for_each(|next| set(&mut forms.pairs, pair(escape, next)));
        }
        forms
    }

    /// Whether something could begin where this text does.
    pub(super) fn may_begin(&self, text: &[u8]) -> bool {
        match *text {
            [one, next, ..] => {
                let at = pair(one, next);
                self.begins[usize::from(one)] && self.pairs[at / 64] >> (at % 64) & 1 == 1
            }
            [last] => self.begins[usize::from(last)],
            [] => false,
        }
    }

    /// How many words the places take.
    pub(super) fn words(&self) -> usize {
        self.first.len()
    }

    /// Nothing has been seen.
    pub(super) fn nothing(&self) -> Bits {
        vec![0; self.first.len()]
    }

    /// Adds what has been seen when this byte follows on `before`.
    pub(super) fn step(&self, before: &Bits, byte: u8, after: &mut Bits) {
        let mut carried = 0;
        let words = after.iter_mut().zip(&**self.places[usize::from(byte)]);
        for ((after, place), (before, first)) in words.zip(before.iter().zip(&self.first)) {
            *after |= ((before << 1) | carried | first) & place;
            carried = before >> 63;
        }
    }

    /// Adds what has been seen when a line breaks after `before`.
    pub(super) fn wrap(&self, before: &Bits, after: &mut Bits) {
        for (after, (before, wrapped)) in after.iter_mut().zip(before.iter().zip(&self.wrapped)) {
            *after |= before & wrapped;
        }
    }

    /// The forms that have been seen whole.
    pub(super) fn whole<'a>(&'a self, bits: &'a Bits) -> impl Iterator<Item = &'a Form> {
        let any = bits
            .iter()
            .zip(&self.last)
            .any(|(bits, last)| bits & last != 0);
        let all = if any { &self.all[..] } else { &[] };
        all.iter().filter(|form| form.is_whole(bits))
    }
}

/// The bit of two bytes in a row.
fn pair(one: u8, next: u8) -> usize {
    usize::from(one) << 8 | usize::from(next)
}

fn forms(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let spaces = |byte: &u8| if *byte == b' ' { b'+' } else { *byte };
    let mut all = vec![
        Zeroizing::new(secret.to_vec()),
        // As names of headers are written.
        Zeroizing::new(secret.to_ascii_lowercase()),
        // As forms write spaces.
        Zeroizing::new(secret.iter().map(spaces).collect()),
    ];
    let mut encoded: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    for upper in [false, true] {
        let hex = |byte: &u8| match upper {
            false => format!("{byte:02x}").into_bytes(),
            true => format!("{byte:02X}").into_bytes(),
        };
        encoded.push(Zeroizing::new(secret.iter().flat_map(hex).collect()));
    }
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            let text = Zeroizing::new([&[0; 2][..before], secret].concat());
            let base64 = Zeroizing::new(engine.encode(&*text).into_bytes());
            // Letters that a neighbour has a part in are another text's as well.
            let (begin, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
            encoded.push(Zeroizing::new(base64[begin.min(end)..end].to_vec()));
        }
    }
    encoded.retain(|form| form.len() >= SHORTEST);
    all.append(&mut encoded);
    all.retain(|form| !form.is_empty());
    all
}

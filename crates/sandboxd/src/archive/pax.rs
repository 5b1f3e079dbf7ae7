//! Attributes of an entry in the pax form: `length key=value`, a line each, where a value may hold any byte (pure).

use super::damaged;

/// Attributes by name, in the order they were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<(Vec<u8>, Vec<u8>)>);

impl Attributes {
    pub(super) fn add(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((key.into(), value.into()));
    }

    /// The last value of this name.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(name, _)| name == key.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// Those whose names begin with `prefix`, without it.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.iter().filter_map(move |(name, value)| {
            Some((name.strip_prefix(prefix.as_bytes())?, value.as_slice()))
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in &self.0 {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} ").as_bytes());
            text.extend_from_slice(key);
            text.push(b'=');
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        text
    }

    pub(super) fn decode(mut text: &[u8]) -> std::io::Result<Self> {
        let wrong = || damaged("attributes are not of the pax form");
        let mut attributes = Self::default();
        while !text.is_empty() {
            let digits = text.iter().take(8).position(|byte| *byte == b' ');
            let digits = digits.ok_or_else(wrong)?;
            let length = std::str::from_utf8(&text[..digits]).ok();
            let length: usize = length
                .and_then(|text| text.parse().ok())
                .ok_or_else(wrong)?;
            let line = text.get(digits + 1..length).ok_or_else(wrong)?;
            let line = line.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = line.iter().position(|byte| *byte == b'=');
            let (key, value) = line.split_at(equals.ok_or_else(wrong)?);
            attributes.add(key, &value[1..]);
            text = &text[length..];
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_whatever_their_values_hold() {
        let mut attributes = Attributes::default();
        attributes.add("path", "a\nb=c");
        attributes.add("SCHILY.xattr.user.x", vec![0, 255, b'\n']);
        for length in [80, 88, 89, 90, 91, 980, 990, 10_000] {
            attributes.add("long", vec![b'x'; length]);
        }
        let read = Attributes::decode(&attributes.encode()).unwrap();
        assert_eq!(read, attributes);
        assert_eq!(read.get("path"), Some(&b"a\nb=c"[..]));
        assert_eq!(read.get("long").map(<[u8]>::len), Some(10_000));
        let below: Vec<_> = read.below("SCHILY.xattr.").collect();
        assert_eq!(below, [(&b"user.x"[..], &[0, 255, b'\n'][..])]);
    }

    #[test]
    fn inp_3_what_is_no_attribute_is_refused() {
        for text in [
            "x",
            "9",
            "99 a=b\n",
            "6 a=b",
            "2 \n",
            "0 ",
            "1 ",
            "7 a=bc\n8",
            "5 abc\n",
            "-5 a=b\n",
            "99999999999999999999 a=b\n",
        ] {
            assert!(Attributes::decode(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}

//! `edit`: exact text replaced by exact text (runtime TL-16).

use std::io::Read as _;

use super::{Edit, Place, file};

/// The largest file that is edited, in bytes: it is held in memory whole.
const LIMIT: u64 = 10 * 1024 * 1024;

pub(super) fn run(input: &Edit, place: &Place) -> Result<String, String> {
    let given = &input.file_path;
    let path = place.path(given);
    let fail = |error| file::error("edit", given, &error);
    let (file, _) = file::open_regular(&path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!(
            "edit: {given} exceeds {LIMIT}-byte limit of files that can be edited"
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("edit: {given}: not valid UTF-8 text (cannot edit binary files)"))?;
    let (updated, count) = replaced(&text, input)?;
    file::replace(&path, updated.as_bytes()).map_err(fail)?;
    Ok(format!("edited {given} ({count} replacement(s))"))
}

/// The new text and the number of replacements.
fn replaced(text: &str, input: &Edit) -> Result<(String, usize), String> {
    let Edit {
        file_path: given,
        old_string: old,
        new_string: new,
        replace_all,
    } = input;
    if old.is_empty() {
        return Err("edit: old_string must not be empty".to_owned());
    }
    match text.matches(old.as_str()).count() {
        0 => Err(format!("edit: old_string not found in {given}")),
        count if count > 1 && !replace_all.unwrap_or(false) => Err(format!(
            "edit: old_string appears {count} times in {given} (must be unique)"
        )),
        count => Ok((text.replace(old.as_str(), new), count)),
    }
}

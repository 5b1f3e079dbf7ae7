//! `write`: a whole file, with the directories above it (runtime TL-15).

use std::fs;

use super::{Place, Write, file};

pub(super) fn run(input: &Write, place: &Place) -> Result<String, String> {
    let Write {
        file_path: given,
        content,
    } = input;
    let path = place.path(given);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| file::replace(&path, content.as_bytes()))
        .map_err(|error| file::error("write", given, &error))?;
    Ok(format!("wrote {} bytes to {given}", content.len()))
}

//! Where a session has its stores (runtime ME-13).

/// The folder that has one folder per store.
pub const MOUNTS: &str = "/mnt/memory";

/// File systems take no longer names.
const NAME: usize = 255;

/// A name, lowercased, with a hyphen for each run of what is neither an ASCII letter nor a digit. Never empty unless the name is.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug
}

/// The mount paths of stores with these names, all different: a slug that is taken gets a number.
pub fn mount_paths<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for name in names {
        let slug = slug(name);
        let free = (1..)
            .map(|number| numbered(&slug, number))
            .find(|candidate| !taken.contains(candidate));
        taken.extend(free);
    }
    let paths = taken.into_iter().map(|slug| format!("{MOUNTS}/{slug}"));
    paths.collect()
}

/// The `number`th folder of a slug, which is ASCII.
fn numbered(slug: &str, number: usize) -> String {
    let suffix = match number {
        1 => String::new(),
        number => format!("-{number}"),
    };
    let room = slug.len().min(NAME - suffix.len());
    format!("{}{suffix}", &slug[..room])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn me_13_a_slug_is_made_of_the_name() {
        #[track_caller]
        fn check(name: &str, expected: &str) {
            assert_eq!(slug(name), expected, "{name}");
        }
        check("Notes", "notes");
        check("User Preferences", "user-preferences");
        check("a -- b", "a-b");
        check(" Café! ", "-caf-");
        check("日本", "-");
        check("../..", "-");
        check("R2-D2", "r2-d2");
    }

    #[test]
    fn me_13_two_stores_have_two_folders() {
        #[track_caller]
        fn check(names: &[&str], expected: &[&str]) {
            let paths = mount_paths(names.iter().copied());
            let expected: Vec<String> = expected
                .iter()
                .map(|slug| format!("{MOUNTS}/{slug}"))
                .collect();
            assert_eq!(paths, expected, "{names:?}");
        }
        check(&[], &[]);
        check(
            &["Notes", "notes", "NOTES"],
            &["notes", "notes-2", "notes-3"],
        );
        check(&["日本", "語"], &["-", "--2"]);
        check(&["a-2", "a", "a"], &["a-2", "a", "a-3"]);
        let long = "x".repeat(255);
        let other = format!("{}-2", "x".repeat(253));
        check(&[&long, &long], &[&long, &other]);
        let growing = "\u{130}".repeat(255);
        let paths = mount_paths([growing.as_str()]);
        assert_eq!(paths[0].len(), MOUNTS.len() + 1 + NAME);
    }
}

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> KeyBytes {
    KeyBytes::new([byte; 32])
}

fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::parse(&format!("wrkspc_{name}")).expect("an id")
}

fn data_key(name: &str) -> DataKeyId {
    DataKeyId::parse(&format!("dkey_{name}")).expect("an id")
}

fn place(workspace: &WorkspaceId) -> Place<'_> {
    Place {
        workspace,
        holder: "vlt_1",
        object: "vcrd_1",
        field: "token",
    }
}

fn sealed(text: &str) -> String {
    let secret = SecretString::from(text);
    seal(&key(1), &data_key("1"), &place(&workspace("1")), &secret).expect("sealed")
}

fn opened(place: &Place<'_>, sealed: &str) -> Result<String, Refusal> {
    let secret = open(&key(1), &data_key("1"), place, sealed)?;
    Ok(secret.expose_secret().to_owned())
}

/// security CRED-1
#[test]
fn cred_1_what_is_sealed_opens_at_its_place() {
    for text in ["", "x", "sk-ä-secret", &"y".repeat(LONGEST)] {
        let value = sealed(text);
        assert!(value.starts_with("mhs1.dkey_1."));
        assert!(text.len() < 2 || !value.contains(text));
        assert_eq!(opened(&place(&workspace("1")), &value).as_deref(), Ok(text));
    }
    let long = SecretString::from("y".repeat(LONGEST + 1));
    let refused = seal(&key(1), &data_key("1"), &place(&workspace("1")), &long);
    assert_eq!(refused, Err(NotSealed::Long));
}

/// security CRED-1: the same secret twice is not to be told from two.
#[test]
fn cred_1_each_sealing_has_a_nonce_of_its_own() {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        assert!(seen.insert(sealed("the same")));
    }
}

/// security CRED-1: a value that was copied to another row, vault, workspace or field does not open.
#[test]
fn cred_1_a_moved_value_fails_closed() {
    let (here, there) = (workspace("1"), workspace("2"));
    let value = sealed("secret");
    let home = place(&here);
    for other in [
        Place {
            workspace: &there,
            ..home
        },
        Place {
            holder: "vlt_2",
            ..home
        },
        Place {
            object: "vcrd_2",
            ..home
        },
        Place {
            field: "access_token",
            ..home
        },
        // What is joined to the same text is not the same place.
        Place {
            holder: "vlt_1v",
            object: "crd_1",
            ..home
        },
        Place {
            holder: "",
            object: "vlt_1vcrd_1",
            ..home
        },
    ] {
        assert_eq!(opened(&other, &value), Err(Refusal::Forged), "{other:?}");
    }
}

/// security CRED-1
#[test]
fn cred_1_another_key_opens_nothing() {
    let here = workspace("1");
    let value = sealed("secret");
    let wrong = open(&key(2), &data_key("1"), &place(&here), &value);
    assert_eq!(wrong.err(), Some(Refusal::Forged));
    let other = open(&key(1), &data_key("2"), &place(&here), &value);
    assert_eq!(other.err(), Some(Refusal::OtherKey));
    // Nor when the value says that it was sealed with that one.
    let renamed = value.replace("dkey_1", "dkey_2");
    let other = open(&key(1), &data_key("2"), &place(&here), &renamed);
    assert_eq!(other.err(), Some(Refusal::Forged));
}

/// security CRED-1
#[test]
fn cred_1_what_has_not_the_form_is_not_opened() {
    let here = workspace("1");
    let value = sealed("secret");
    for broken in [
        "",
        "secret",
        "mhs1",
        "mhs1.",
        "mhs1.dkey_1",
        "mhs1.dkey_1.",
        "mhs1.dkey_1.AAAA",
        "mhs1.dkey_1.????",
        &value.replace("mhs1", "mhs2"),
        &value.replace("mhs1.", "mhs1"),
        &format!("{value}="),
        &format!("mhs1.dkey_1.{}", "A".repeat(LONGEST * 2 + 1)),
    ] {
        assert_eq!(
            opened(&place(&here), broken),
            Err(Refusal::Form),
            "{broken:.40}"
        );
    }
}

/// security CRED-1: data keys are bound to their workspace and id.
#[test]
fn cred_1_a_wrapped_key_opens_at_its_place_alone() {
    let (master, wrapped_key) = (key(7), key(9));
    let bound_to = key_place(&workspace("1"), &data_key("1"));
    let wrapped = wrap(&master, &bound_to, &wrapped_key).expect("wrapped");
    assert!(wrapped.starts_with("mhk1."));
    assert_eq!(unwrap(&master, &bound_to, &wrapped), Ok(wrapped_key));
    for other in [
        key_place(&workspace("2"), &data_key("1")),
        key_place(&workspace("1"), &data_key("2")),
    ] {
        assert_eq!(unwrap(&master, &other, &wrapped), Err(Refusal::Forged));
    }
    assert_eq!(unwrap(&key(8), &bound_to, &wrapped), Err(Refusal::Forged));
    // A sealed secret of 32 bytes is no key.
    let secret = SecretString::from("x".repeat(32));
    let value = seal(&master, &data_key("1"), &place(&workspace("1")), &secret).expect("sealed");
    let value = value.replace("mhs1.dkey_1.", "mhk1.");
    assert_eq!(unwrap(&master, &bound_to, &value), Err(Refusal::Forged));
    let short = encrypt(&master, &bound_to, &[1; 31]).expect("sealed");
    let short = format!("{WRAPPED}.{short}");
    assert_eq!(unwrap(&master, &bound_to, &short), Err(Refusal::Form));
}

proptest! {
    /// security CRED-1: not one bit can be changed.
    #[test]
    fn cred_1_a_changed_value_fails_closed(text in "[ -~]{0,64}", at in any::<prop::sample::Index>(), bit in 0..6_u8) {
        let value = sealed(&text);
        let start = "mhs1.dkey_1.".len();
        let at = start + at.index(value.len() - start);
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = value.into_bytes();
        let digit = DIGITS.iter().position(|digit| *digit == bytes[at]).expect("base64");
        bytes[at] = DIGITS[digit ^ (1 << bit)];
        let changed = String::from_utf8(bytes).expect("text");
        // The last digit may have bits that stand for nothing: then it has not the form.
        let refused = opened(&place(&workspace("1")), &changed).expect_err("refused");
        prop_assert!(matches!(refused, Refusal::Forged | Refusal::Form));
    }
}

use tidewire_auth::{InvalidSealKey, SealError, SealKey, Vault};

fn vault(keys: &[u8]) -> Vault {
    let keys: Vec<_> = keys.iter().map(|key| SealKey::from_bytes([*key; 32])).collect();
    Vault::new(&keys).expect("a vault")
}

#[test]
fn what_is_sealed_opens_under_every_live_key_and_under_no_other() {
    let sealed = vault(&[1]).seal(b"purpose", b"text");

    assert_eq!(vault(&[1]).open(b"purpose", &sealed).as_deref(), Ok(&b"text"[..]));
    assert_eq!(vault(&[2, 1]).open(b"purpose", &sealed).as_deref(), Ok(&b"text"[..]));
    assert_eq!(vault(&[2]).open(b"purpose", &sealed), Err(SealError::Invalid));
    assert!(vault(&[1, 2]).is_newest(&sealed) && !vault(&[2, 1]).is_newest(&sealed));
    assert!(!vault(&[1]).is_newest(b""));
}

#[test]
fn what_was_altered_or_is_opened_as_something_else_does_not_open() {
    let vault = vault(&[1]);
    let sealed = vault.seal(b"purpose", b"text");

    assert_eq!(vault.open(b"another", &sealed), Err(SealError::Invalid));
    for index in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[index] ^= 1;
        assert_eq!(vault.open(b"purpose", &altered), Err(SealError::Invalid), "{index}");
        assert_eq!(vault.open(b"purpose", &sealed[..index]), Err(SealError::Invalid), "{index}");
    }
}

#[test]
fn a_text_has_a_mark_under_each_key_which_others_share_with_it() {
    let marks = vault(&[1, 2]).marks(b"text");

    assert_eq!(marks.len(), 2);
    assert_eq!(vault(&[2]).marks(b"text"), [marks[1]]);
    assert_ne!(vault(&[2]).marks(b"other"), [marks[1]]);
    assert!(Vault::new(&[]).is_err_and(|error| error == InvalidSealKey::None));
}

//! Known answers, and that nothing opens but what was sealed.

use proptest::prelude::*;

use super::*;

fn unhexed(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn keyring() -> Keyring {
    Keyring::new(&[1; 32], &[[2; 32], [3; 32]]).unwrap()
}

/// Every copy of these bytes that differs from them in a single bit.
fn bit_flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn the_cipher_is_that_of_rfc_8439() {
    // Section 2.8.2.
    let key = aead(&unhexed("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")).unwrap();
    let nonce: [u8; 12] = unhexed("070000004041424344454647").try_into().unwrap();
    let bound = unhexed("50515253c0c1c2c3c4c5c6c7");
    let plain = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let mut bytes = plain.as_bytes().to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&bound), &mut bytes).unwrap();
    let sealed = unhexed(
        "d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
         1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
         3ff4def08e4b7a9de576d26586cec64b 6116 1ae10b594f09e26a7e902ecbd0600691",
    );
    assert_eq!(bytes, sealed);
}

#[test]
fn a_blocks_nonce_is_its_number_in_96_bits() {
    // What a reader without this crate does: the data key, the number as nonce, nothing else.
    let mut bytes = b"payload".to_vec();
    let nonce = Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    aead(&[7; 32]).unwrap().seal_in_place_append_tag(nonce, Aad::from(b"bound"), &mut bytes).unwrap();
    let segment = SegmentKey(aead(&[7; 32]).unwrap());
    assert_eq!(segment.seal(0x0102_0304, b"bound", b"payload").unwrap(), bytes);
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    // Section 7.1, tests 1 to 3.
    let tests = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in tests {
        let signer = Signer::new(&unhexed(seed).try_into().unwrap()).unwrap();
        assert_eq!(signer.public_key().0, unhexed(public));
        let made = Signature::by(&signer, &unhexed(message));
        assert_eq!(STANDARD.decode(&made.ed25519).unwrap(), unhexed(signature));
        assert_eq!(made.check(&signer.public_key(), &unhexed(message)), Ok(()));
    }
}

#[test]
fn a_signature_holds_for_its_message_and_key_alone() {
    let signer = Signer::new(&[9; 32]).unwrap();
    let made = Signature::by(&signer, b"manifest");
    let of = |ed25519: &[u8]| Signature { ed25519: STANDARD.encode(ed25519), ..made.clone() };
    let bytes = STANDARD.decode(&made.ed25519).unwrap();
    assert!(bit_flips(&bytes).all(|flipped| !of(&flipped).fits(b"manifest")));
    assert!(bit_flips(b"manifest").all(|flipped| !made.fits(&flipped)));
    assert!(!of(&bytes[..63]).fits(b"manifest"));
    let by = |key: &[u8]| Signature { public_key: STANDARD.encode(key), ..made.clone() };
    assert!(bit_flips(&signer.public_key().0).all(|other| !by(&other).fits(b"manifest")));
}

#[test]
fn a_data_key_opens_for_its_segment_alone() {
    let segment = Uuid::from_u128(7);
    let (data, wrapped) = keyring().new_segment(segment).unwrap();
    let sealed = data.seal(0, b"", b"payload").unwrap();
    assert_eq!(keyring().open_segment(segment, &wrapped).unwrap().open(0, b"", &sealed).unwrap(), b"payload");
    assert_eq!(keyring().open_segment(Uuid::from_u128(8), &wrapped).unwrap_err(), SealError::Broken);
}

#[test]
fn a_rotated_keyring_opens_what_was_and_wraps_with_the_new_key() {
    let segment = Uuid::from_u128(7);
    let before = Keyring::new(&[1; 32], &[]).unwrap();
    let (_, wrapped) = before.new_segment(segment).unwrap();
    let after = Keyring::new(&[4; 32], &[[1; 32]]).unwrap();
    after.open_segment(segment, &wrapped).unwrap();
    let (_, wrapped) = after.new_segment(segment).unwrap();
    let said = before.open_segment(segment, &wrapped).unwrap_err().to_string();
    assert!(said.contains(&wrapped.key_id_hex()) && said.contains(&before.ids()[0]), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_flipped_bit_of_a_wrapped_key_opens(segment: u128) {
        let segment = Uuid::from_u128(segment);
        let (_, wrapped) = keyring().new_segment(segment).unwrap();
        for flipped in bit_flips(&wrapped.to_bytes()) {
            let flipped = WrappedKey::from_bytes(&flipped.try_into().unwrap());
            let outcome = keyring().open_segment(segment, &flipped).map(drop);
            let is_told = match outcome {
                Err(SealError::OtherKey { .. }) => flipped.key_id != wrapped.key_id,
                Err(SealError::Broken) => flipped.key_id == wrapped.key_id,
                _ => false,
            };
            prop_assert!(is_told);
        }
    }

    #[test]
    fn no_flipped_bit_of_a_block_or_of_what_it_is_bound_to_opens(
        block: u32,
        bound in prop::collection::vec(any::<u8>(), 0..24),
        plain in prop::collection::vec(any::<u8>(), 0..96),
    ) {
        let (key, _) = keyring().new_segment(Uuid::nil()).unwrap();
        let sealed = key.seal(block, &bound, &plain).unwrap();
        prop_assert_eq!(key.open(block, &bound, &sealed).unwrap(), plain);
        prop_assert!(bit_flips(&sealed).all(|flipped| key.open(block, &bound, &flipped).is_err()));
        prop_assert!(bit_flips(&bound).all(|flipped| key.open(block, &flipped, &sealed).is_err()));
        prop_assert!((0..32).all(|bit| key.open(block ^ (1 << bit), &bound, &sealed).is_err()));
        prop_assert!((0..sealed.len()).all(|len| key.open(block, &bound, &sealed[..len]).is_err()));
    }
}

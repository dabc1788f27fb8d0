use crate::{Algorithm, KeyId, VerificationKey};

/// Keys that nobody has the other half of, one for each algorithm: what a signature costs is spent with
/// them where there is no key to check it with, so that time does not tell which keys there are.
#[derive(Debug)]
pub(crate) struct Decoys([VerificationKey; 4]);

impl Decoys {
    pub(crate) fn new() -> Self {
        Self(Algorithm::ALL.map(|algorithm| {
            let id = KeyId::parse("decoy").expect("a valid id");
            let pem = match algorithm {
                Algorithm::Hs256 => return VerificationKey::from_secret(id, &[0; 32]).expect(FITS),
                Algorithm::EdDsa => include_str!("decoys/eddsa.pem"),
                Algorithm::Es256 => include_str!("decoys/es256.pem"),
                Algorithm::Rs256 => include_str!("decoys/rs256.pem"),
            };
            VerificationKey::from_public_pem(id, algorithm, pem).expect(FITS)
        }))
    }

    /// Spends what it costs to check a signature of the algorithm that a token names.
    pub(crate) fn check(&self, named: &str, message: &[u8], signature: &str) {
        let algorithm = named.parse().unwrap_or(Algorithm::Hs256);
        let decoy = self.0.iter().find(|key| key.algorithm() == algorithm);
        decoy.expect("there is one for each").has_signed(message, signature);
    }
}

const FITS: &str = "a decoy is a key like others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_decoy_for_each_algorithm() {
        let Decoys(decoys) = Decoys::new();

        assert_eq!(decoys.map(|decoy| decoy.algorithm()), Algorithm::ALL);
    }
}

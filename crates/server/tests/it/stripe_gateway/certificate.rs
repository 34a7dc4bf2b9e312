//! A TLS server with a certificate of its own making, written out in DER so that no private key lies in the repository.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];

/// Serves any request over TLS as 127.0.0.1 with a valid, unexpired certificate that only it itself vouches for.
pub fn serve_self_signed() -> String {
    let (certificate, key) = self_signed();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = Stream::new(&mut connection, &mut stream);
            let mut request = [0; 4096];
            if tls.read(&mut request).is_ok() {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"id\":\"cus_1\"}");
            }
        }
    });
    base
}

fn self_signed() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let algorithm = sequence(&[der(6, ECDSA_WITH_SHA256)]);
    let name = sequence(&[der(0x31, &sequence(&[der(6, COMMON_NAME), der(12, b"127.0.0.1")]))]);
    let validity = sequence(&[der(0x17, b"200101000000Z"), der(0x17, b"490101000000Z")]);
    let public = sequence(&[sequence(&[der(6, EC_PUBLIC_KEY), der(6, P256)]), bits(pair.public_key().as_ref())]);
    let names = sequence(&[der(0x87, &[127, 0, 0, 1])]);
    let extensions = sequence(&[sequence(&[der(6, SUBJECT_ALT_NAME), der(4, &names)])]);
    let body = sequence(&[
        der(0xa0, &der(2, &[2])),
        der(2, &[1]),
        algorithm.clone(),
        name.clone(),
        validity,
        name,
        public,
        der(0xa3, &extensions),
    ]);
    let signature = pair.sign(&random, &body).unwrap();
    let certificate = sequence(&[body, algorithm, bits(signature.as_ref())]);
    (certificate.into(), pkcs8.as_ref().to_vec().into())
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    der(3, &[&[0], bytes].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 0..128) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [vec![tag], length, content.to_vec()].concat()
}

//! Certificates as they are used: handshakes in memory between a server and clients, and rotation.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kubewright_pki::{
    Authority, Bundle, ClientVerifier, Identity, PkiError, ServingCertificate, Subject, client_config,
    server_config,
};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NO_GROUPS: [&str; 0] = [];

/// What the handshake itself judges validity by.
fn now() -> SystemTime {
    SystemTime::now()
}

fn server_of(authority: &Authority) -> Arc<ServingCertificate> {
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let identity = authority.server(&["localhost", "*.example.com"], &addresses, now()).unwrap();
    Arc::new(ServingCertificate::new(&identity).unwrap())
}

/// Runs a handshake in memory; gives the chain the server saw.
fn shake(
    config: &Arc<ServerConfig>,
    trusted: &Bundle,
    identity: Option<&Identity>,
    name: &str,
) -> Result<Option<Vec<CertificateDer<'static>>>, rustls::Error> {
    let config_of_client = Arc::new(client_config(trusted, identity).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(config_of_client, name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(server.peer_certificates().map(|chain| chain.iter().map(|der| der.clone().into_owned()).collect()))
}

#[test]
fn a_client_certificate_says_user_and_groups() {
    let authority = Authority::new("ca", now()).unwrap();
    let groups = ["system:masters", "dev", "ops & Ümläute"];
    let identity = authority.client("jane@example.com", &groups, now()).unwrap();
    let config = Arc::new(server_config(server_of(&authority)).unwrap());
    let chain = shake(&config, &authority.bundle(), Some(&identity), "localhost").unwrap().unwrap();
    let subject = ClientVerifier::new(&authority.bundle()).unwrap().identify(&chain, now()).unwrap();
    let groups = groups.map(String::from).to_vec();
    assert_eq!(subject, Subject { user: "jane@example.com".into(), groups });
}

#[test]
fn names_and_groups_of_any_length_and_number_come_back() {
    let authority = Authority::new("ca", now()).unwrap();
    let groups: Vec<String> = (0..300).map(|index| format!("group-{index}")).collect();
    let user = "u".repeat(500);
    let identity = authority.client(&user, &groups, now()).unwrap();
    let verifier = ClientVerifier::new(&authority.bundle()).unwrap();
    assert_eq!(verifier.identify(identity.chain(), now()).unwrap(), Subject { user, groups });
}

#[test]
fn a_server_is_known_by_each_of_its_names_and_no_other() {
    let authority = Authority::new("ca", now()).unwrap();
    let config = Arc::new(server_config(server_of(&authority)).unwrap());
    for name in ["localhost", "127.0.0.1", "::1", "a.example.com"] {
        assert_eq!(shake(&config, &authority.bundle(), None, name).unwrap(), None, "{name}");
    }
    for name in ["example.org", "127.0.0.2", "a.b.example.com"] {
        assert!(shake(&config, &authority.bundle(), None, name).is_err(), "{name}");
    }
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let authority = Authority::new("ca", now()).unwrap();
    // The same name, another key.
    let impostor = Authority::new("ca", now()).unwrap();
    let config = Arc::new(server_config(server_of(&impostor)).unwrap());
    assert!(shake(&config, &authority.bundle(), None, "localhost").is_err());
}

#[test]
fn a_strange_client_gets_a_connection_but_no_identity() {
    let authority = Authority::new("ca", now()).unwrap();
    let stranger = Authority::new("ca", now()).unwrap().client("admin", &["system:masters"], now()).unwrap();
    let config = Arc::new(server_config(server_of(&authority)).unwrap());
    let chain = shake(&config, &authority.bundle(), Some(&stranger), "localhost").unwrap().unwrap();
    let verifier = ClientVerifier::new(&authority.bundle()).unwrap();
    assert!(matches!(verifier.identify(&chain, now()), Err(PkiError::Untrusted { .. })));
}

#[test]
fn a_certificate_is_for_clients_or_for_servers() {
    let authority = Authority::new("ca", now()).unwrap();
    let verifier = ClientVerifier::new(&authority.bundle()).unwrap();
    let server = authority.server(&["localhost"], &[], now()).unwrap();
    assert!(matches!(verifier.identify(server.chain(), now()), Err(PkiError::Untrusted { .. })));
    let client = authority.client("jane", &NO_GROUPS, now()).unwrap();
    let config = Arc::new(server_config(Arc::new(ServingCertificate::new(&client).unwrap())).unwrap());
    assert!(shake(&config, &authority.bundle(), None, "localhost").is_err());
}

#[test]
fn certificates_are_valid_for_their_time_only() {
    let made = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let authority = Authority::new("ca", made).unwrap().with_leaf_life(10 * DAY);
    let identity = authority.client("jane", &NO_GROUPS, made).unwrap();
    let verifier = ClientVerifier::new(&authority.bundle()).unwrap();
    assert!(verifier.identify(identity.chain(), made).is_ok());
    assert!(verifier.identify(identity.chain(), made + 10 * DAY).is_ok());
    assert!(verifier.identify(identity.chain(), made + 11 * DAY).is_err());
    assert!(verifier.identify(identity.chain(), made - DAY).is_err());
    assert_eq!(identity.not_after(), made + 10 * DAY);
    assert!(identity.renew_at() > made + 6 * DAY && identity.renew_at() < made + 7 * DAY);
}

#[test]
fn nothing_outlives_its_authority() {
    let made = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let authority = Authority::new("ca", made).unwrap();
    let late = authority.not_after() - DAY;
    assert_eq!(authority.client("jane", &NO_GROUPS, late).unwrap().not_after(), authority.not_after());
}

#[test]
fn an_authority_and_its_identities_survive_pem() {
    let authority = Authority::new("ca", now()).unwrap();
    let loaded = Authority::from_pem(&authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(loaded.certificate(), authority.certificate());
    let issued = loaded.client("jane", &["dev"], now()).unwrap();
    let read = Identity::from_pem(&issued.certificate_pem(), &issued.key_pem()).unwrap();
    assert_eq!((read.chain(), read.key()), (issued.chain(), issued.key()));
    let config = Arc::new(server_config(server_of(&authority)).unwrap());
    let chain = shake(&config, &authority.bundle(), Some(&read), "localhost").unwrap().unwrap();
    let verifier = ClientVerifier::new(&Bundle::from_pem(&authority.certificate_pem()).unwrap()).unwrap();
    assert_eq!(verifier.identify(&chain, now()).unwrap().user, "jane");
}

#[test]
fn an_authority_is_loaded_only_with_its_own_key_and_if_it_is_one() {
    let authority = Authority::new("ca", now()).unwrap();
    let other = Authority::new("ca", now()).unwrap();
    let mixed = Authority::from_pem(&authority.certificate_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(PkiError::KeyMismatch)));
    let leaf = authority.client("jane", &NO_GROUPS, now()).unwrap();
    let loaded = Authority::from_pem(&leaf.certificate_pem(), &leaf.key_pem());
    assert!(matches!(loaded, Err(PkiError::NotAnAuthority)));
    for (certificate, key) in [("", ""), ("garbage", "garbage"), (&*authority.certificate_pem(), "")] {
        assert!(Authority::from_pem(certificate, key).is_err());
    }
}

#[test]
fn an_authority_is_replaced_while_both_are_trusted() {
    let old = Authority::new("ca", now()).unwrap();
    let new = Authority::new("ca", now()).unwrap();
    let serving = server_of(&old);
    let config = Arc::new(server_config(Arc::clone(&serving)).unwrap());
    let mut both = old.bundle();
    both.add(new.certificate().clone());
    both.add(old.certificate().clone());
    assert_eq!(both.certificates().len(), 2);
    let both = Bundle::from_pem(&both.to_pem()).unwrap();

    let verifier = ClientVerifier::new(&both).unwrap();
    for authority in [&old, &new] {
        let identity = authority.client("jane", &NO_GROUPS, now()).unwrap();
        assert_eq!(verifier.identify(identity.chain(), now()).unwrap().user, "jane");
    }
    shake(&config, &both, None, "localhost").unwrap();
    serving.replace(&new.server(&["localhost"], &[], now()).unwrap()).unwrap();
    shake(&config, &both, None, "localhost").unwrap();
    assert!(shake(&config, &old.bundle(), None, "localhost").is_err());
}

#[test]
fn expired_authorities_leave_a_bundle() {
    let made = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let (old, new) =
        (Authority::new("old", made).unwrap(), Authority::new("new", made + 1000 * DAY).unwrap());
    let mut bundle = Bundle::from(vec![old.certificate().clone(), new.certificate().clone()]);
    bundle.prune(old.not_after()).unwrap();
    assert_eq!(bundle.certificates().len(), 2);
    bundle.prune(old.not_after() + DAY).unwrap();
    assert_eq!(bundle.certificates(), [new.certificate().clone()]);
}

#[test]
fn bad_names_are_refused() {
    let authority = Authority::new("ca", now()).unwrap();
    assert!(matches!(authority.client("", &NO_GROUPS, now()), Err(PkiError::NoUser)));
    assert!(matches!(authority.server(&["ümlaut"], &[], now()), Err(PkiError::Name { .. })));
    assert!(matches!(ClientVerifier::new(&Bundle::default()), Err(PkiError::EmptyBundle)));
}

#[test]
fn debug_output_holds_no_key() {
    let authority = Authority::new("ca", now()).unwrap();
    let identity = authority.client("jane", &NO_GROUPS, now()).unwrap();
    let shown = format!("{authority:?} {identity:?}");
    assert!(shown.len() < 600, "{shown}");
}

#[test]
fn a_bundle_vouches_for_servers_of_its_authorities_under_their_names_while_they_are_valid() {
    let authority = Authority::lasting("ca", 100 * DAY, now()).unwrap().with_leaf_life(30 * DAY);
    let identity = authority.server(&["a.b.svc", "a.b"], &[], now()).unwrap();
    assert_eq!(identity.dns_names().unwrap(), ["a.b.svc", "a.b"]);
    let bundle = authority.bundle();
    bundle.vouches_for(&identity, "a.b.svc", now()).unwrap();
    for refused in [
        bundle.vouches_for(&identity, "other.b.svc", now()),
        bundle.vouches_for(&identity, "not a name", now()),
        bundle.vouches_for(&identity, "a.b.svc", now() + 31 * DAY),
        Authority::new("ca", now()).unwrap().bundle().vouches_for(&identity, "a.b.svc", now()),
    ] {
        assert!(matches!(refused, Err(PkiError::Untrusted { .. })), "{refused:?}");
    }
    assert!(authority.renew_at() > now() + 66 * DAY && authority.renew_at() < now() + 67 * DAY);
}

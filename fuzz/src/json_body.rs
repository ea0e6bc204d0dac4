//! Bodies in JSON. Input: the body.

use kubewright_machinery::{decode, meta, scan};
use serde_json::Value;

/// Bodies are read as another parser reads them, and headers as a full parse has them.
pub fn check(input: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(input);
    let ours = decode::json(input);
    match (&ours, &theirs) {
        (Ok(ours), _) => {
            let printed = serde_json::to_vec(&ours.value).expect("a value can be written");
            let again = decode::json(&printed).expect("what was written can be read");
            assert_eq!(again.value, ours.value);
            assert!(again.strict.is_empty(), "{:?}", again.strict);
        }
        // There are numbers and half characters that only one of the two reads, and depths.
        (Err(_), _) => {}
    }
    let _ = scan::find(input, &["metadata", "name"]);
    let _ = scan::entries(input);
    let _ = scan::string(input);
    let header = scan::Header::scan(input);
    if let Ok(ours) = ours
        && ours.strict.is_empty()
        && theirs.as_ref().is_ok_and(|theirs| *theirs == ours.value)
        && let Ok(header) = header
    {
        assert_eq!(header.name, meta::name(&ours.value));
        assert_eq!(header.kind, meta::kind(&ours.value));
        assert_eq!(header.api_version, meta::api_version(&ours.value));
        assert_eq!(header.namespace, meta::namespace(&ours.value));
    }
}

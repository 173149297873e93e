//! Encrypted entries that a Python program shares: in frames, as any function's, and in interop mode.
//!
//! ```console
//! $ export CACHEKIT_MASTER_KEY=$(openssl rand -hex 32) CACHEKIT_DEPLOYMENT_UUID=$(uuidgen | tr A-F a-f)
//! $ cargo run -p cachekit-cache --example encrypted -- redis://localhost:6379/0 7 8
//! ```

use cachekit::{
    encryption::{Keychain, MasterKey},
    prelude::*,
};
use serde::{Deserialize, Serialize};

/// What both programs call a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    patient: u64,
    allergies: Vec<String>,
    by: String,
}

#[expect(clippy::print_stdout, reason = "the example shows what happens")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("the URL of a Redis is expected")?;
    let key = MasterKey::from_hex(&std::env::var("CACHEKIT_MASTER_KEY")?)?;
    let cache = Cache::builder()
        .redis(url)
        .namespace("clinic")
        .deployment(std::env::var("CACHEKIT_DEPLOYMENT_UUID")?)
        .encryption(Keychain::new(key, vec![])?)
        .build()?;
    // In Python: @cache(namespace="clinic", encryption=True)
    //            def load(patient: int)                                        # of the module records
    //            @cache(namespace="clinic", encryption=True, interop="load")
    //            def load_shared(patient: int)
    let ways = [
        ("framed", cache.function("records", "load")),
        ("interop", cache.interop("load")?),
    ];
    for patient in args {
        let patient: u64 = patient.parse()?;
        for (way, function) in &ways {
            let found = function
                .call(&(patient,), || async move {
                    Ok::<_, std::convert::Infallible>(Record {
                        patient,
                        allergies: vec!["penicillin".to_owned()],
                        by: "rust".to_owned(),
                    })
                })
                .await;
            let Ok(Record { by, .. }) = found;
            println!("{way} {patient}: by {by}");
        }
    }
    println!("refused: {}", cache.stats().refused);
    Ok(())
}

//! The Rust half of `examples/interop`: serves what the Python half stored, and stores for it.
//!
//! ```console
//! $ cargo run -p cachekit-cache --example interop -- redis://localhost:6379/0
//! ```

use cachekit::{interop::Set, prelude::*};
use serde::{Deserialize, Serialize};

/// What both programs call a quote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Quote {
    article: String,
    total: f64,
    by: String,
}

#[expect(clippy::print_stdout, reason = "the example shows what happens")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "redis://localhost:6379/0".to_owned());
    let cache = Cache::builder().redis(url).namespace("shop").build()?;
    // In Python: @cache(interop="quote", namespace="shop")
    //            def quote(article: str, quantity: int = 1, tags: set[str] = frozenset())
    let quote = cache.interop("quote")?;
    for (article, quantity) in [("tea", 3), ("coffee", 2)] {
        let args = (article, quantity, Set(["new", "hot"]));
        let found = quote
            .call(&args, || async move {
                Ok::<_, std::convert::Infallible>(Quote {
                    article: article.to_owned(),
                    total: f64::from(quantity) * 2.5,
                    by: "rust".to_owned(),
                })
            })
            .await;
        let Ok(Quote { total, by, .. }) = found;
        println!("{article}: {total} by {by}");
    }
    Ok(())
}

pipetalk::service! {
    pub trait Kv {
        /// Says that a key is in use.
        #[idempotent]
        notify touch(key: String);
        #[idempotent]
        stream list(prefix: String) -> String;
    }
    pub struct KvClient;
}

fn main() {}

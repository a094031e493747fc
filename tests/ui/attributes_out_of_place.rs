pipetalk::service! {
    #[idempotent]
    #[cfg(unix)]
    pub trait Kv {
        #[cfg(unix)]
        fn get(key: String) -> String;
        #[name = "other"]
        fn put(key: String);
        #[version = "1"]
        fn len() -> u64;
    }
    pub struct KvClient;
}

fn main() {}

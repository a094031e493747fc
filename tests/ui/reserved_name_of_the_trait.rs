pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> String;
        fn service(name: String) -> String;
    }
    pub struct KvClient;
}

fn main() {}

use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> Option<Blob>;
        func put(key: String, value: Blob);
    }
    pub struct KvClient;
}

fn main() {}

use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> Option<Blob>;
    }
}

fn main() {}

pipetalk::service! {
    pub trait Kv {
        fn connect(to: String);
        fn connect_with();
        fn over();
        notify over_with();
        fn with();
        fn with_deadline();
        stream channel() -> u8;
        fn clone();
    }
    pub struct KvClient;
}

fn main() {}

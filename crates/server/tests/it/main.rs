mod stripe_gateway;
fn main(){}

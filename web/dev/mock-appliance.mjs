export async function appliance() { return false; }

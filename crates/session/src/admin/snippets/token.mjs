import jwt from "jsonwebtoken"; // npm install jsonwebtoken

// With one of the app's signing keys; short-lived: the client comes back for the next one.
export const tokenOf = (user) =>
  jwt.sign({ sub: user.id, name: user.name, app: "{app}" }, process.env.XPUSH_SIGNING_KEY, {
    algorithm: "HS256",
    keyid: "{kid}",
    expiresIn: "10m",
  });

/** Passkeys: what the server asks, what the browser's authenticator answers. Binary values travel in base64url. */
import { post, type Schemas } from './client'

type Options = Schemas['PasskeyOptionsAnswer']['publicKey']
type Described = { type: 'public-key'; id: string }

const decode = (text: string) =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (one) => one.charCodeAt(0))
const encode = (raw: ArrayBuffer) =>
  btoa(String.fromCharCode(...new Uint8Array(raw)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
const named = (all: Described[]) => all.map((one) => ({ ...one, id: decode(one.id) }))

/** Whether this page can use passkeys: browsers want https or localhost, and a name instead of an IP address. */
export const hasPasskeys = () =>
  'PublicKeyCredential' in window && !/^[\d.]+$|^\[/.test(location.hostname) && window.isSecureContext

async function answered(asked: Promise<Credential | null>) {
  const made = (await asked) as PublicKeyCredential
  const said = made.response as AuthenticatorAttestationResponse & AuthenticatorAssertionResponse
  const response: Record<string, string> = {}
  for (const name of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle'] as const)
    if (said[name]) response[name] = encode(said[name])
  return { id: made.id, rawId: encode(made.rawId), type: made.type, response }
}

/** Asks the browser for a new passkey, and adds it. */
export async function addPasskey(name: string) {
  const { publicKey } = await post('/v1/passkeys/begin')
  const asked = publicKey as Options & { challenge: string; user: { id: string }; excludeCredentials: Described[] }
  const credential = await answered(
    navigator.credentials.create({
      publicKey: {
        ...asked,
        challenge: decode(asked.challenge),
        user: { ...asked.user, id: decode(asked.user.id) },
        excludeCredentials: named(asked.excludeCredentials),
      } as unknown as PublicKeyCredentialCreationOptions,
    }),
  )
  return post('/v1/passkeys', {}, { name, credential })
}

/** Signs in with a passkey of whoever is there; the token that writes send from then on. */
export async function enterByPasskey() {
  const { publicKey } = await post('/v1/session/passkey')
  const asked = publicKey as Options & { challenge: string; allowCredentials: Described[] }
  const credential = await answered(
    navigator.credentials.get({
      publicKey: {
        ...asked,
        challenge: decode(asked.challenge),
        allowCredentials: named(asked.allowCredentials),
      } as unknown as PublicKeyCredentialRequestOptions,
    }),
  )
  return (await post('/v1/session/passkey/finish', {}, { credential })).csrfToken
}

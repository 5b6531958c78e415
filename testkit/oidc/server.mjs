// A real identity provider on loopback: whoever it knows signs in by name. Told at /test who they are, and what time it is.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import http from 'node:http'
import Provider from 'oidc-provider'

const [port, client, secret, redirect] = process.argv.slice(2)
const issuer = `http://localhost:${port}`
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })
const scopes = 'openid email profile groups offline_access'
const realNow = Date.now
let people = {}

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: client,
      client_secret: secret,
      redirect_uris: [redirect],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
    },
  ],
  jwks: { keys: [{ ...key, use: 'sig', alg: 'RS256', kid: 'one' }] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: scopes.split(' '),
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
  async loadExistingGrant(ctx) {
    const { client, provider, session } = ctx.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope(scopes)
    await grant.save()
    return grant
  },
})

const body = async (request) => {
  const parts = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts).toString()
}

async function answer(request, response) {
  const [, room] = request.url.split('/')
  if (request.url === '/test') {
    const told = JSON.parse(await body(request))
    if (told.people) people = told.people
    if (told.aheadMs !== undefined) Date.now = () => realNow() + told.aheadMs
    response.end()
  } else if (room === 'interaction' && request.method === 'POST') {
    const name = new URLSearchParams(await body(request)).get('name')
    const result = people[name]
      ? { login: { accountId: name } }
      : { error: 'access_denied', error_description: 'Nobody has this name.' }
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  } else if (room === 'interaction') {
    response.setHeader('content-type', 'text/html')
    response.end('<!doctype html><title>Acme</title><form method="post"><input name="name" aria-label="Name"><button>Go</button></form>')
  } else provider.callback()(request, response)
}

http
  .createServer((request, response) =>
    answer(request, response).catch((error) => {
      response.statusCode = 500
      response.end(String(error))
    }),
  )
  .listen(Number(port), '127.0.0.1', () => console.log('ready'))

/** Signs in with a key, at the identity provider, or by itself with a one-time link or the provider's answer. */
import { Button, PasswordInput } from '@mantine/core'
import { IconBolt } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { type FormEvent, useCallback, useEffect, useRef, useState } from 'react'
import { useLocation } from 'wouter'
import { ApiError, get, keepCsrfToken, post } from '../api/client'
import { enterByPasskey, hasPasskeys } from '../api/passkey'
import { words } from '../words'

/** The page that the identity provider sends people back to, with its answer in the address. */
export const AFTER_PROVIDER = '/sign-in'

/** What the provider said. */
function readAnswer() {
  const said = new URLSearchParams(location.search)
  const state = said.get('state')
  if (location.pathname !== AFTER_PROVIDER || !state) return null
  const of = (name: string) => said.get(name) ?? undefined
  return { state, code: of('code'), iss: of('iss'), error: of('error'), errorDescription: of('error_description') }
}

type Props = { token: string | null; atProvider: string | null; enter: () => void }

export function SignIn({ token, atProvider, enter }: Props) {
  const [, goTo] = useLocation()
  const [key, setKey] = useState('')
  const [wrong, setWrong] = useState('')
  const [answer] = useState(readAnswer)
  const [busy, setBusy] = useState(token !== null || answer !== null)
  const [refused, setRefused] = useState('')
  const finished = useRef(false)
  const provider = useQuery({ queryKey: ['provider'], queryFn: () => get('/v1/session/provider'), retry: false })
  const redeemed = useRef<string | null>(null)
  const done = useCallback(
    (csrfToken: string) => {
      keepCsrfToken(csrfToken)
      window.dispatchEvent(new HashChangeEvent('hashchange'))
      if (location.pathname === AFTER_PROVIDER) goTo('/', { replace: true })
      enter()
    },
    [enter, goTo],
  )
  useEffect(() => {
    document.title = `${words.signIn.title} · ${words.app}`
    if (!token || redeemed.current === token) return
    redeemed.current = token
    history.replaceState(null, '', location.pathname + location.search)
    post('/v1/session/redeem', {}, { token })
      .then(({ csrfToken }) => done(csrfToken))
      .catch((error: unknown) => {
        setWrong(error instanceof ApiError && error.status !== 401 ? error.message : words.signIn.badLink)
        setBusy(false)
      })
  }, [token, done])
  useEffect(() => {
    if (!answer || finished.current) return
    finished.current = true
    history.replaceState(null, '', AFTER_PROVIDER) // it is taken out of the address and its history at once
    post('/v1/session/provider/finish', {}, answer)
      .then(({ csrfToken }) => done(csrfToken))
      .catch((error: unknown) => {
        setRefused(error instanceof ApiError ? error.message : String(error))
        setBusy(false)
      })
  }, [answer, done])
  const leave = async () => {
    setBusy(true)
    try {
      location.assign((await post('/v1/session/provider')).url)
    } catch (error) {
      setRefused(error instanceof ApiError ? error.message : String(error))
      setBusy(false)
    }
  }
  const byPasskey = async () => {
    setBusy(true)
    try {
      done(await enterByPasskey())
    } catch (error) {
      setRefused(error instanceof ApiError ? error.message : words.signIn.noPasskey)
      setBusy(false)
    }
  }
  const submit = async (event: FormEvent) => {
    event.preventDefault()
    setBusy(true)
    try {
      done((await post('/v1/session', {}, { key: key.trim() })).csrfToken)
    } catch (error) {
      setWrong(error instanceof ApiError && error.status !== 401 ? error.message : words.signIn.wrong)
      setBusy(false)
    }
  }
  const other = provider.data?.name ? words.signIn.orKey : words.signIn.about
  const about = busy && (token || answer) ? words.signIn.byLink : other
  return (
    <main className="signin">
      <form onSubmit={submit}>
        <h1>
          <span className="logo" aria-hidden>
            <IconBolt size={20} />
          </span>
          {words.app}
        </h1>
        {provider.data?.name && (
          <Button fullWidth mb="md" loading={busy} onClick={leave}>
            {words.signIn.with(provider.data.name)}
          </Button>
        )}
        {hasPasskeys() && (
          <Button fullWidth mb="md" variant="default" disabled={busy} onClick={byPasskey}>
            {words.signIn.passkey}
          </Button>
        )}
        {refused && (
          <div className="fault" role="alert">
            {refused}
          </div>
        )}
        {atProvider && (
          <p>
            {words.signIn.stillThere(provider.data?.name ?? '')}{' '}
            <a href={atProvider} rel="noreferrer">
              {words.signIn.leaveThere}
            </a>
          </p>
        )}
        <p>{about}</p>
        <PasswordInput
          label={words.signIn.key}
          description={words.signIn.where}
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
          error={wrong}
          autoComplete="current-password"
          autoFocus
        />
        <Button
          type="submit"
          fullWidth
          variant={provider.data?.name ? 'default' : 'filled'}
          mt="md"
          loading={busy}
          disabled={!key.trim()}
        >
          {words.signIn.go}
        </Button>
      </form>
    </main>
  )
}

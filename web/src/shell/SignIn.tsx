/** Signs in with a key, or by itself with a one-time link. */
import { Button, PasswordInput } from '@mantine/core'
import { IconBolt } from '@tabler/icons-react'
import { type FormEvent, useCallback, useEffect, useRef, useState } from 'react'
import { ApiError, keepCsrfToken, post } from '../api/client'
import { words } from '../words'

export function SignIn({ token, enter }: { token: string | null; enter: () => void }) {
  const [key, setKey] = useState('')
  const [wrong, setWrong] = useState('')
  const [busy, setBusy] = useState(token !== null)
  const redeemed = useRef<string | null>(null)
  const done = useCallback(
    (csrfToken: string) => {
      keepCsrfToken(csrfToken)
      window.dispatchEvent(new HashChangeEvent('hashchange'))
      enter()
    },
    [enter],
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
  return (
    <main className="signin">
      <form onSubmit={submit}>
        <h1>
          <span className="logo" aria-hidden>
            <IconBolt size={20} />
          </span>
          {words.app}
        </h1>
        <p>{busy && token ? words.signIn.byLink : words.signIn.about}</p>
        <PasswordInput
          label={words.signIn.key}
          description={words.signIn.where}
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
          error={wrong}
          autoComplete="current-password"
          autoFocus
        />
        <Button type="submit" fullWidth mt="md" loading={busy} disabled={!key.trim()}>
          {words.signIn.go}
        </Button>
      </form>
    </main>
  )
}

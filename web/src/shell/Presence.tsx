/** Asks for a passkey, or for the key itself, when the server wants to know that it is the person who is here. */
import { Button, Modal, PasswordInput } from '@mantine/core'
import { type FormEvent, type ReactNode, useEffect, useState } from 'react'
import { get, keepCsrfToken } from '../api/client'
import { enterByPasskey, hasPasskeys } from '../api/passkey'
import { usePresence } from '../api/presence'
import { useList, useMe } from '../api/queries'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { presence as said } from '../words.roles'

export default function Presence() {
  const ask = usePresence((state) => state.ask)
  const me = useMe().data
  return ask && me ? me.personId ? <ByPasskey answer={ask.answer} /> : <ByKey answer={ask.answer} /> : null
}

type Props = { answer: (shown: string | true | null) => void }

/** Over the dialog that asks: without a header, since a page has one banner. */
const Over = ({ close, children }: { close: () => void; children: ReactNode }) => (
  <Modal.Root opened onClose={close} centered zIndex={300} lockScroll={false}>
    <Modal.Overlay />
    <Modal.Content aria-label={said.title}>
      <Modal.Body>
        <h2>{said.title}</h2>
        {children}
      </Modal.Body>
    </Modal.Content>
  </Modal.Root>
)

function ByPasskey({ answer }: Props) {
  const found = useList('/v1/passkeys')
  const me = useMe().data?.personId
  const [error, setError] = useState<unknown>(null)
  const cannot = !hasPasskeys() || Boolean(found.error) || (found.isSuccess && found.rows.length === 0)
  useEffect(() => {
    if (cannot) answer(null) // the refusal says what to do
  }, [cannot, answer])
  if (cannot || !found.isSuccess) return null
  const confirm = async () => {
    setError(null)
    try {
      keepCsrfToken(await enterByPasskey())
      // somebody else's passkey signs somebody else in, who has asked for nothing
      if ((await get('/v1/me')).personId !== me) location.reload()
      else answer(true)
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <Over close={() => answer(null)}>
      <div className="fields">
        <p>{said.passkey}</p>
        <Trouble error={error} />
        <div className="answers">
          <Button variant="default" onClick={() => answer(null)}>
            {words.dialog.cancel}
          </Button>
          <Button data-autofocus onClick={confirm}>
            {said.confirm}
          </Button>
        </div>
      </div>
    </Over>
  )
}

function ByKey({ answer }: Props) {
  const [key, setKey] = useState('')
  const go = (event: FormEvent) => {
    event.preventDefault()
    answer(key.trim())
  }
  return (
    <Over close={() => answer(null)}>
      <form className="fields" onSubmit={go} autoComplete="off">
        <PasswordInput
          label={said.key}
          description={said.keyAbout}
          required
          data-autofocus
          autoComplete="off"
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
        />
        <div className="answers">
          <Button variant="default" onClick={() => answer(null)}>
            {words.dialog.cancel}
          </Button>
          <Button type="submit" disabled={!key.trim()}>
            {said.go}
          </Button>
        </div>
      </form>
    </Over>
  )
}

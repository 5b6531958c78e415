/** A form in a dialog: sends, says what the server refuses, closes when it is done. */
import { Button, Modal } from '@mantine/core'
import { type FormEvent, type ReactNode, useState } from 'react'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'

type Props = {
  title: string
  go: string
  close: () => void
  act: () => Promise<unknown>
  size?: number
  children: ReactNode
}

export function FormDialog({ title, go, close, act, size = 520, children }: Props) {
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const submit = async (event: FormEvent) => {
    event.preventDefault()
    setBusy(true)
    setError(null)
    try {
      await act()
      close()
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  return (
    <Modal opened onClose={close} title={title} size={size} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <form className="fields" onSubmit={submit} autoComplete="off">
        {children}
        <Trouble error={error} />
        <div className="answers">
          <Button variant="default" onClick={close}>
            {words.dialog.cancel}
          </Button>
          <Button type="submit" loading={busy}>
            {go}
          </Button>
        </div>
      </form>
    </Modal>
  )
}

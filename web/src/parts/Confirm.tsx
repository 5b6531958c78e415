/** Asks before something that cannot be taken back; the focus is on the answer that does nothing. */
import { Button, Modal } from '@mantine/core'
import { type ReactNode, useState } from 'react'
import { words } from '../words'
import { Trouble } from './Trouble'

type Props = {
  title: string
  isOpen: boolean
  close: () => void
  go: string
  cancel?: string
  danger?: boolean
  disabled?: boolean
  act: () => Promise<unknown>
  children: ReactNode
}

export function Confirm({ title, isOpen, close, go, cancel, danger = true, disabled, act, children }: Props) {
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const run = async () => {
    setBusy(true)
    setError(null)
    try {
      await act()
      close()
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  return (
    <Modal
      opened={isOpen}
      onClose={close}
      title={title}
      centered
      closeButtonProps={{ 'aria-label': words.dialog.close }}
    >
      {children}
      <Trouble error={error} />
      <div className="answers">
        <Button variant="default" data-autofocus onClick={close}>
          {cancel ?? words.dialog.cancel}
        </Button>
        <Button className={danger ? 'danger' : ''} loading={busy} disabled={disabled} onClick={run}>
          {go}
        </Button>
      </div>
    </Modal>
  )
}

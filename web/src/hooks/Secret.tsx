/** A secret that is shown once. */
import { Button, Modal } from '@mantine/core'
import { words } from '../words'
import { hooks as said } from '../words.hooks'

export function Secret({ secret, close }: { secret: string; close: () => void }) {
  return (
    <Modal opened onClose={close} title={said.secret} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <p>{said.secretAbout}</p>
      <p>
        <code className="secret">{secret}</code>
      </p>
      <div className="answers">
        <Button onClick={close}>{said.stored}</Button>
      </div>
    </Modal>
  )
}

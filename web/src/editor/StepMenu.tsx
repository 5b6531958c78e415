/** What can be done with a step, where it was asked for by the other mouse button or the menu key. */
import { Menu } from '@mantine/core'
import { IconAdjustments, IconArrowMergeBoth, IconPlus, IconTrash } from '@tabler/icons-react'
import { useCallback, useEffect, useState } from 'react'
import { NO_ACTS, useCanvasActs } from '../canvas/acts'
import { readable } from '../model/amounts'
import { words } from '../words'
import { edit, select, useDocument } from './document'
import { removeNodes } from './edits'

const said = words.editor
/** More than these are drawn without signs between them, so that a large canvas keeps moving. */
const MOST_WITH_SIGNS = 200

type Props = { add: (after: string, before?: string) => void; connect: (from: string) => void }
type At = { id: string; x: number; y: number }

export function StepMenu({ add, connect }: Props) {
  const [at, setAt] = useState<At | null>(null)
  const hasSigns = useDocument((s) => Object.keys(s.flow.nodes).length <= MOST_WITH_SIGNS)
  const menu = useCallback((id: string, x: number, y: number) => setAt({ id, x, y }), [])
  useEffect(() => {
    useCanvasActs.setState({ add: hasSigns ? add : null, menu })
    return () => useCanvasActs.setState(NO_ACTS)
  }, [add, menu, hasSigns])
  const node = useDocument((s) => (at ? s.flow.nodes[at.id] : undefined))
  if (!at || !node) return null
  const close = () => setAt(null)
  const { id } = at
  const name = node.titleOverride || readable(id)
  return (
    <Menu opened onClose={close} position="bottom-start" key={`${at.x} ${at.y}`}>
      <Menu.Target>
        <span className="menuat" ref={(el) => place(el, at)} />
      </Menu.Target>
      <Menu.Dropdown aria-label={name}>
        <Menu.Item leftSection={<IconAdjustments size={16} />} onClick={() => select([id])}>
          {said.settingsOf}
        </Menu.Item>
        <Menu.Item leftSection={<IconPlus size={16} />} onClick={() => add(id)}>
          {said.addAfter(name)}
        </Menu.Item>
        <Menu.Item leftSection={<IconArrowMergeBoth size={16} />} onClick={() => connect(id)}>
          {said.connect}
        </Menu.Item>
        <Menu.Item leftSection={<IconTrash size={16} />} onClick={() => edit((flow) => removeNodes(flow, [id]))}>
          {said.remove}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}

function place(element: HTMLElement | null, { x, y }: At) {
  element?.style.setProperty('left', `${x}px`)
  element?.style.setProperty('top', `${y}px`)
}
